"""One keep-alive connection of the load client: sends a fixed request again and again, reads the answers.

Parsing is httptools', so that lengths and chunked bodies are handled as a real client does. It must stay
cheap, since the client shares its machine with what it measures; it keeps no totals of its own.
"""

import asyncio
import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast

import httptools

EVENT_START = b"\ndata:"
COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer. `output_tokens` is None where nobody asked to count, or no usage came."""

    status: int
    chunks: int
    seconds: float
    output_tokens: int | None

    @property
    def succeeded(self) -> bool:
        return self.status < HTTPStatus.BAD_REQUEST


class LoadOwner(Protocol):
    """Who decides whether a connection sends once more, and hears how it went."""

    def take_turn(self) -> bool:
        """True if one more request may be sent; it is then counted as sent."""
        ...

    def answered(self, answer: Answer) -> None:
        """Takes a complete answer."""
        ...

    def broken(self, connection: "LoadConnection", *, waiting: bool) -> None:
        """Takes the loss of the connection; `waiting` if an answer was still to come."""
        ...


class LoadConnection(asyncio.Protocol):
    """Sends the next request as soon as the last answer is complete."""

    def __init__(self, owner: LoadOwner, request: bytes, *, count_output_tokens: bool) -> None:
        self._owner = owner
        self._request = request
        self._count_output_tokens = count_output_tokens
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting = False
        self._sent_at_seconds = 0.0
        self.on_message_begin()

    @property
    def chunks_in_flight(self) -> int:
        """Events seen of the answer that is not complete yet."""
        return self._chunks

    def close(self) -> None:
        """Leaves at once, without the answer it may be waiting for; that is not a broken connection."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do everything asyncio.Transport does without being one.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        if self._transport is not None:
            self._transport = None
            self._owner.broken(self, waiting=self._waiting)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._is_event_stream = False
        self._chunks = 0
        # The end of what was read, so that an event's start cut in two is still found, and found once.
        self._tail = b"\n"
        self._body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == len(b"content-type") and name.lower() == b"content-type":
            self._is_event_stream = value.startswith(b"text/event-stream")

    def on_body(self, body: bytes) -> None:
        if self._is_event_stream:
            window = self._tail + body
            self._chunks += window.count(EVENT_START)
            self._tail = window[1 - len(EVENT_START) :]
        if self._count_output_tokens:
            self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < HTTPStatus.OK:  # an interim answer such as 100 Continue: the real one follows
            return
        self._waiting = False
        seconds = time.perf_counter() - self._sent_at_seconds
        chunks, self._chunks = self._chunks, 0
        self._owner.answered(Answer(status, chunks, seconds, self._output_tokens()))
        if self._parser.should_keep_alive():
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        if self._transport is not None and self._owner.take_turn():
            self._waiting = True
            # Not the loop's time, which uvloop refreshes once per iteration and keeps in milliseconds.
            self._sent_at_seconds = time.perf_counter()
            self._transport.write(self._request)

    def _output_tokens(self) -> int | None:
        if not self._count_output_tokens:
            return None
        # The last one: streams with continuous usage repeat it, growing.
        found = COMPLETION_TOKENS.findall(b"".join(self._body))
        return int(found[-1]) if found else None
