"""One HTTP/1.1 connection of the fake engine: parsing requests, writing answers, noticing a client that left.

Requests are answered one after another in the order they came. Knows nothing of what the paths mean.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast
from uuid import uuid4

import httptools

REASONS = {status.value: status.phrase for status in HTTPStatus}
STREAM_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    "Transfer-Encoding: chunked\r\nX-Request-Id: {}\r\n{}\r\n"
)
STREAM_TAIL = b"0\r\n\r\n"
MAX_PIPELINED_REQUESTS = 8  # beyond it the socket is not read, so a pipelining client meets back-pressure


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One whole request. `request_id` is the caller's `X-Request-Id`, or made here."""

    method: str
    target: str
    request_id: str
    body: bytes
    keep_alive: bool


class Cancellable(Protocol):
    """Work whose answer the connection is waiting for."""

    def resume(self) -> None:
        """The client has caught up."""
        ...

    def cancel(self) -> None:
        """The client has gone."""
        ...


class HttpConnection(asyncio.Protocol):
    """Hands whole requests to `handle`, which answers by the methods below, at once or later."""

    def __init__(self, handle: Callable[["HttpConnection", HttpRequest], None]) -> None:
        self._handle = handle
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[HttpRequest] = deque()
        self._current: HttpRequest | None = None
        self._work: Cancellable | None = None
        self.writable = True
        self.on_message_begin()

    # What a handler may call.

    def respond(self, status: int, body: bytes, extra_headers: str = "") -> None:
        """Sends a whole JSON answer; `extra_headers` are complete lines."""
        request = self._current
        if request is None or self._transport is None:
            return
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: {request.request_id}\r\n"
            f"{extra_headers}{_connection_header(request)}\r\n"
        )
        self._transport.write(head.encode("latin-1") + body)
        self._answered()

    def start_stream(self) -> None:
        """Sends the head of an event stream."""
        request = self._current
        if request is not None and self._transport is not None:
            head = STREAM_HEAD.format(request.request_id, _connection_header(request))
            self._transport.write(head.encode("latin-1"))

    def write(self, data: bytes) -> None:
        """Sends bytes that are already in HTTP's chunked framing."""
        if self._transport is not None:
            self._transport.write(data)

    def end_stream(self) -> None:
        """Ends an event stream; the connection takes the next request."""
        self.write(STREAM_TAIL)
        self._answered()

    def break_off(self) -> None:
        """Closes the connection in the middle of the answer, after what was written has left."""
        self._work = None
        if self._transport is not None:
            self._transport.close()

    def wait_for(self, work: Cancellable) -> None:
        """Names the work to cancel when the client leaves before the answer is complete."""
        self._work = work

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do everything asyncio.Transport does without being one.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._transport = None
        self._waiting.clear()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self._transport.close()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self._work is not None:
            self._work.resume()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._target = b""
        self._request_id = b""
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == len(b"x-request-id") and name.lower() == b"x-request-id":
            self._request_id = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = HttpRequest(
            self._parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            self._request_id.decode("latin-1") or uuid4().hex,
            b"".join(self._body),
            self._parser.should_keep_alive(),
        )
        if self._current is not None:
            self._waiting.append(request)
            if len(self._waiting) >= MAX_PIPELINED_REQUESTS and self._transport is not None:
                self._transport.pause_reading()
            return
        self._current = request
        self._handle(self, request)

    def _answered(self) -> None:
        request, self._current, self._work = self._current, None, None
        if self._transport is None or request is None:
            return
        if not request.keep_alive:
            self._waiting.clear()
            self._transport.close()
        elif self._waiting:
            # Not called from here, lest a long pipeline of instant answers becomes a deep stack.
            self._current = self._waiting.popleft()
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._transport is not None and self._current is not None:
            self._transport.resume_reading()
            self._handle(self, self._current)


def _connection_header(request: HttpRequest) -> str:
    return "" if request.keep_alive else "Connection: close\r\n"
