"""Two ASGI middlewares around the meter's, inside a vLLM server: how long it holds back what the application sends.

Given to vLLM as `--middleware bench.delay_probe.Inner --middleware metering.vllm_plugin.EnergyMiddleware --middleware
bench.delay_probe.Outer`, for what is named last is outermost. `GET /delays` answers with what was measured.
"""

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HANDED_OVER: Final = "wattline.handed_over_at_seconds"


class Inner:
    """Notes when the application hands a message over."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            scope[_HANDED_OVER] = time.perf_counter()
            await send(message)

        await self._app(scope, receive, stamped)


class Outer:
    """Notes when it comes out: the longest delay of each answer's messages, in seconds."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._longest_seconds: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/delays":
            await self._tell(send)
            return
        longest = 0.0

        async def timed(message: Message) -> None:
            nonlocal longest
            if (handed_over := scope.get(_HANDED_OVER)) is not None:
                longest = max(longest, time.perf_counter() - handed_over)
            await send(message)

        await self._app(scope, receive, timed)
        if scope["type"] == "http" and scope["method"] == "POST":
            self._longest_seconds.append(longest)

    async def _tell(self, send: Send) -> None:
        body = json.dumps(self._longest_seconds).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
