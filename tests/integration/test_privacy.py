"""What callers write is nowhere afterwards: not in the server's output, on its disk, nor on the pages it shows."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.integration.canary import CANARY, ask_everything, chat, files_with
from tests.integration.http_answers import CHAT, COMPLETIONS, ask
from tests.integration.processes import EngineProcess, FrontEnd, eventually, fake_engine, front_end
from tests.integration.scripted_engine import MODEL, ScriptedEngine, scripted_engine, stream

OWN_ID = "an-id-of-the-callers"
PAGES = (
    "/metrics",
    "/v1/scheduler",
    "/v1/energy/live",
    "/v1/energy/summary?by=tenant,model,tier,endpoint,outcome,worker",
    "/ready",
)
ERROR = {"message": CANARY, "type": CANARY, "param": CANARY, "code": CANARY}


async def quoting_error(_: web.Request) -> web.StreamResponse:
    return web.json_response({"error": ERROR}, status=400, headers={"X-Quote": CANARY})


async def quoting_failure(_: web.Request) -> web.StreamResponse:
    return web.json_response({"detail": CANARY}, status=500, reason=CANARY)


async def quoting_answer(_: web.Request) -> web.StreamResponse:
    return web.json_response({"choices": [{"message": {"content": CANARY}}], "id": CANARY, "model": CANARY})


async def answer_that_breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(CANARY.encode())
    assert request.transport is not None
    request.transport.close()
    return response


async def no_http(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(f"{CANARY}\r\n{CANARY}: {CANARY}\r\n\r\n".encode())
    request.transport.close()
    return web.Response()


async def bad_chunk(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    request.transport.write(f"{head}{CANARY}\r\n".encode())
    request.transport.close()
    return web.Response()


SCRIPTS = {
    "an error": quoting_error,
    "a failure": quoting_failure,
    "an answer": quoting_answer,
    "half an answer": answer_that_breaks_off,
    "no HTTP": no_http,
    "a bad chunk": bad_chunk,
    "a stream": stream([f'data: {{"choices":[{{"text":"{CANARY}"}}]}}\n\n'.encode(), b"data: [DONE]\n\n"]),
    "a stream's error": stream([f"data: {json.dumps({'error': ERROR})}\n\n".encode(), b"data: [DONE]\n\n"]),
    "half a stream": stream([f"data: {CANARY}\n\n".encode(), CANARY.encode()]),
}


async def as_asked(request: web.Request) -> web.StreamResponse:
    """By a header, so that all can be asked at once: some are tried three times."""
    if request.path == "/health":
        return web.Response()
    return await SCRIPTS[request.headers["X-Script"]](request)


async def hear_quotes(client: aiohttp.ClientSession, engine: ScriptedEngine) -> None:
    """An engine repeats, in every way it can, what it was asked."""
    engine.script = as_asked
    async with asyncio.TaskGroup() as group:
        for name in SCRIPTS:
            for is_stream in (False, True):
                group.create_task(ask(client, CHAT, chat(MODEL, stream=is_stream), headers={"X-Script": name}))
    assert len(engine.seen) > 2 * len(SCRIPTS)


async def check_pages(client: aiohttp.ClientSession, request_ids: list[str]) -> None:
    for target in (*PAGES, *(f"/v1/energy/requests/{one}" for one in request_ids)):
        page = await ask(client, target, method="GET")
        assert page.status == 200, target
        assert CANARY.encode() not in page.body.lower(), target


async def test_a_canary_is_found_nowhere(tmp_path: Path) -> None:
    own = {name: tmp_path / name.lower() for name in ("TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME")}
    for folder in own.values():
        folder.mkdir()
    ledger = tmp_path / "ledger" / "ledger.db"
    settings: dict[str, Any] = {
        "log_level": "debug",
        "log_format": "json",
        "access_log": True,
        "max_body_bytes": 500_000,
    }
    environ = {name: str(folder) for name, folder in own.items()}
    (tmp_path / "server").mkdir()
    async with (
        fake_engine(tmp_path, "--max-model-len", "1024", "--decode-tokens-per-second", "500") as engine,
        scripted_engine() as quoting,
        front_end(
            tmp_path / "server", engine.url, quoting.url, environ=environ, ledger_url=f"sqlite:///{ledger}", **settings
        ) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        answers = await ask_everything(client, "fake")
        assert {answer.status for answer in answers} == {200}
        too_large = {"model": "fake", "prompt": f"{CANARY} " * 40_000}
        assert (await ask(client, COMPLETIONS, too_large)).status == 413
        await hear_quotes(client, quoting)
        assert (await ask(client, CHAT, chat("fake"), headers={"X-Request-Id": OWN_ID})).status == 200
        ids = [answer.headers["X-Request-Id"] for answer in answers]
        await eventually(lambda: all_in_the_log(server, [*ids, OWN_ID]))
        await check_pages(client, [*ids, OWN_ID])
        await check_files(server, engine, ledger, [*own.values(), server.log.parent])
    assert files_with(CANARY, tmp_path) == []


async def check_files(server: FrontEnd, engine: EngineProcess, ledger: Path, folders: list[Path]) -> None:
    """While the server runs, so that what the database has not yet taken into its file is there to be read."""
    assert CANARY not in server.output().lower()
    assert ledger.with_name("ledger.db-wal") in files_with(OWN_ID, ledger.parent), "what is there is found"
    assert files_with(CANARY, ledger.parent, *folders, engine.uds.parent) == []


async def all_in_the_log(server: FrontEnd, request_ids: list[str]) -> bool:
    output = server.output()
    return all(one in output for one in request_ids)
