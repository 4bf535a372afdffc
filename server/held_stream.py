"""Keeps a caller's connection alive while its streaming request waits for a worker."""

import asyncio
from typing import Final

from server.asgi import Headers, Send

# Under the 15 to 60 seconds after which proxies and clients give up on a silent connection.
_KEEP_ALIVE_SECONDS: Final = 10.0


class HeldStream:
    """From the first keep-alive comment on, the answer has begun as a 200 stream and errors must go inside it.

    `headers` go with those that every such answer has.
    """

    def __init__(self, send: Send, request_id: str, headers: Headers) -> None:
        self.has_begun = False
        self._send = send
        self._request_id = request_id
        self._headers = headers
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(_KEEP_ALIVE_SECONDS, self._begin)

    def release(self) -> None:
        """The wait is over; no more comments."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        self.has_begun = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", self._request_id.encode("ascii")),
            *self._headers,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        while True:
            await self._send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
