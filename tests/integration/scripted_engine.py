"""An OpenAI-compatible server inside the test, unmetered, that answers what the test wrote."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

MODEL = "scripted"


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedEngine:
    """Lists `models` and hands every other request to `script`, a script of the test's own."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = models
        self.url = ""
        self.seen: list[SeenRequest] = []
        self.script: Script = echo

    def begin_anew(self) -> None:
        """Forget what the last test saw and wrote."""
        self.seen = []
        self.script = echo

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET" and request.path == "/v1/models":
            return web.json_response(
                {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
            )
        if request.path == "/energy":
            return web.Response(status=404)
        headers = [(name.decode(), value.decode()) for name, value in request.raw_headers]
        self.seen.append(SeenRequest(request.method, request.raw_path, headers, await request.read()))
        return await self.script(request)


async def echo(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read(), content_type="application/octet-stream")


@contextlib.asynccontextmanager
async def scripted_engine(*models: str) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(models or (MODEL,))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", engine.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        engine.url = f"http://{host}:{port}"
        yield engine
    finally:
        await runner.cleanup()


def whole(body: bytes) -> Script:
    """Answers with this JSON body."""

    async def script(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return script


def stream(pieces: Sequence[bytes], written: asyncio.Event | None = None) -> Script:
    """Sends these pieces, each in a write of its own; before the last it waits for `written` where that is given."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, piece in enumerate(pieces):
            if written is not None and number == len(pieces) - 1:
                await written.wait()
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return script
