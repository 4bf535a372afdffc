"""One stream of the held-stream load: sends one request and notes when each of its events comes."""

import asyncio
import time
from array import array
from typing import Final, Protocol, cast

import httptools

_EVENT: Final = b"data: "
_DONE: Final = b"data: [DONE]"
_ERROR: Final = b'data: {"error"'
_OK: Final = 200


class StreamOwner(Protocol):
    """Who hears of a stream's first event and of its end, and takes the gaps between its events while it wants them."""

    gaps_seconds: "array[float] | None"

    def begun(self) -> None:
        """Takes the first event of a stream."""
        ...

    def ended(self, *, had_begun: bool, whole: bool) -> None:
        """Takes the end of a stream, `had_begun` if it had a first event.

        It is `whole` if it was as long as asked, held no error and said that it ends.
        """
        ...


class StreamConnection(asyncio.Protocol):
    """Ends exactly once: with its answer, or with the loss of its connection."""

    def __init__(self, owner: StreamOwner, request: bytes, least_events: int) -> None:
        self._owner = owner
        self._request = request
        self._least_events = least_events
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._last_at_seconds: float | None = None
        self._tail = b""
        self._has_failed = False
        self._has_ended = False
        self.events = 0

    def close(self) -> None:
        """Leaves at once; that is no error of the server's."""
        self._has_ended = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do everything asyncio.Transport does without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._end(whole=False)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(whole=False)

    def on_body(self, body: bytes) -> None:
        # Our servers and their peers write whole events, so an event's start is never cut in two.
        count = body.count(_EVENT)
        if not count:
            return
        now = time.perf_counter()
        if self._last_at_seconds is None:
            self._owner.begun()
        elif (gaps := self._owner.gaps_seconds) is not None:
            gaps.append(now - self._last_at_seconds)
            # Events that come together have no gap between them, and their caller waited for the first of them.
            gaps.extend([0.0] * (count - 1))
        self._last_at_seconds = now
        self.events += count
        self._tail = body
        self._has_failed = self._has_failed or _ERROR in body

    def on_message_complete(self) -> None:
        is_answer = self._parser.get_status_code() == _OK and not self._has_failed
        self._end(whole=is_answer and self.events >= self._least_events and _DONE in self._tail)
        if self._transport is not None:
            self._transport.close()

    def _end(self, *, whole: bool) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._owner.ended(had_begun=self.events > 0, whole=whole)
