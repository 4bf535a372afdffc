"""One HTTP/1.1 connection to an engine, and the answer that comes over it.

The hot path of the server: a general HTTP client takes four times as long for a small answer as this. What is
not needed between us and an engine is not here: redirects, cookies, compression, proxies, TLS.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Final, Self, cast

import httptools

# As much of a stream as may wait for its caller before the engine has to.
_MOST_BUFFERED_BYTES: Final = 256 * 1024
_FINAL: Final = 200  # statuses below are interim
_SWITCHING: Final = 101


class EngineAnswer:
    """One answer as it comes. Whoever has it owes it `release` or `close`; OSError where the engine breaks off."""

    def __init__(self, connection: "EngineConnection") -> None:
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._reads_whole = False
        self._is_complete = False
        self._error: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content(self) -> Self:
        """Where its body is read from."""
        return self

    async def begin(self) -> None:
        """Return once status and headers are there."""
        while not self.status:
            await self._wait()

    async def read(self) -> bytes:
        """The whole body."""
        self._reads_whole = True
        while not self._is_complete:
            self._connection.resume_reading()
            await self._wait()
        return self._take()

    async def readany(self) -> bytes:
        """What has come since the last time, at least one byte; none at the end."""
        while not self._pieces and not self._is_complete:
            await self._wait()
        data = self._take()
        self._connection.resume_reading()
        return data

    async def iter_any(self) -> AsyncIterator[bytes]:
        """The body in the pieces it comes in."""
        while data := await self.readany():
            yield data

    def release(self) -> None:
        """Done with it: the connection takes the next request if the answer is complete, else it is closed."""
        self._connection.released(self)

    def close(self) -> None:
        """Not interested in the rest: the engine is to notice at once."""
        if not self._is_complete:
            self._connection.abort()
        self._connection.released(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # What the connection tells.

    def begun(self, status: int, raw_headers: list[tuple[bytes, bytes]]) -> None:
        self.status, self.raw_headers = status, raw_headers
        self._wake()

    def fed(self, piece: bytes) -> bool:
        """Take a piece of the body; whether more may come now."""
        self._pieces.append(piece)
        self._buffered_bytes += len(piece)
        self._wake()
        return self._reads_whole or self._buffered_bytes < _MOST_BUFFERED_BYTES

    def completed(self) -> None:
        self._is_complete = True
        self._wake()

    def failed(self, error: OSError) -> None:
        self._error = error
        self._wake()

    @property
    def is_complete(self) -> bool:
        return self._is_complete

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered_bytes = 0
        return data

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EngineConnection(asyncio.Protocol):
    """Carries one request and its answer at a time. `on_free` hears when it takes the next, `on_lost` of its end."""

    def __init__(
        self, on_free: Callable[["EngineConnection"], None], on_lost: Callable[["EngineConnection"], None]
    ) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: EngineAnswer | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_reading = True
        self._may_stay = True
        self._is_aborted = False
        self.free_since_seconds = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> EngineAnswer:
        """Send a whole request on an open connection that is free."""
        answer = self._answer = EngineAnswer(self)
        assert self._transport is not None
        self._transport.write(request)
        return answer

    def abort(self) -> None:
        """Close at once; whoever awaits an answer gets an error."""
        self._is_aborted = True
        if self._transport is not None:
            self._transport.abort()

    def resume_reading(self) -> None:
        if not self._is_reading and self.is_open:
            assert self._transport is not None
            self._is_reading = True
            self._transport.resume_reading()

    def released(self, answer: EngineAnswer) -> None:
        if answer is not self._answer:
            return  # released before
        self._answer = None
        if answer.is_complete and self._may_stay and self.is_open:
            self.resume_reading()  # an answer may have come whole before anybody read of it
            self._on_free(self)
        else:
            self.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do everything asyncio.Transport does without being one.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        answer = self._answer
        if answer is not None and not answer.is_complete:
            if exc is None and not self._is_aborted and answer.status and _ends_with_connection(answer.raw_headers):
                answer.completed()
            else:
                reason = "closed the connection" if exc is None else f"broke the connection ({type(exc).__name__})"
                answer.failed(ConnectionResetError(f"the engine {reason}"))
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            if self._answer is None or self._answer.is_complete:
                self.abort()  # nobody has asked for this
                return
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is not None:
                self._answer.failed(ConnectionError(f"the engine's answer is not HTTP: {error}"))
            self.abort()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._answer is not None and (status >= _FINAL or status == _SWITCHING):
            self._answer.begun(status, self._headers)

    def on_body(self, body: bytes) -> None:
        if self._answer is not None and not self._answer.fed(body) and self._is_reading and self.is_open:
            assert self._transport is not None
            self._is_reading = False
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._answer is not None and self._parser.get_status_code() >= _FINAL:
            self._may_stay = self._parser.should_keep_alive()
            self._answer.completed()


def _ends_with_connection(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether only the connection's end can say that a body is whole, as HTTP/1.0 does it."""
    return not any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in headers)
