"""uvicorn's HTTP/1.1 protocol with the writes of one turn of the event loop sent as one.

uvicorn writes a response's headers and its body separately, and a system call with the wake-up of the peer costs more
than everything else we do for a small answer. Collecting the writes of one turn halves them, and joins the chunks of a
stream that arrived together.

uvicorn also waits for ever for whoever has begun a request; here a head or a body that does not come is given up.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any, Final

from server.api_error import ApiError
from server.bounded_protocol import MAX_HEAD_BYTES, BoundedHttpProtocol
from server.connection_limits import Awaited, ConnectionLimits, SenderWatch

_UPGRADE: Final = re.compile(rb"\r\n(?:upgrade|http2-settings|connection:[^\r\n]*upgrade)[^\r\n]*", re.IGNORECASE)


class CorkedTransport(asyncio.Transport):
    """Passes everything to another transport; what is written leaves when the event loop next comes round."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(bytes(data))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._pending.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401  # asyncio's signature
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def _flush(self) -> None:
        if self._pending:
            data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending.clear()
            if not self._transport.is_closing():
                self._transport.write(data)


class CorkedHttpProtocol(BoundedHttpProtocol):
    """The protocol class handed to uvicorn: corked, with bounded heads, deadlines for senders, and deaf to upgrades.

    Clients that offer HTTP/2 (`Upgrade: h2c`) with their first request mean the request all the same: RFC 9110 section
    7.8 has a server ignore what it does not speak. uvicorn would drop the body and read it as the next request.
    """

    limits = ConnectionLimits()
    _watch: SenderWatch
    _look_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0
    _heads = 0
    _has_sent = False
    _unsent_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(CorkedTransport(transport, self.loop))
        now_seconds = self.loop.time()
        self._watch = SenderWatch(self.limits, now_seconds)
        # One timer a connection, not one a request: a timer costs as much as parsing a head.
        self._look_timer = self.loop.call_later(self._watch.remaining_seconds(now_seconds), self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._watch.awaited is Awaited.NOTHING:
            self._watch.head_begins(self.loop.time())
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._heads = False, self._heads + 1
        self._watch.head_ends(self.loop.time())
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._watch.body_ends()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that has grown too long without an end."""
        self._has_sent = True
        match self._watch.awaited:
            case Awaited.BODY:
                self._watch.excuse(self.loop.time())
            case Awaited.NOTHING:  # even line breaks between requests, which the parser overlooks, begin a head
                self._watch.head_begins(self.loop.time())
        if self._in_head and self._head_bytes == 0:
            data = _without_upgrade(data)
        was_in_head, heads = self._in_head, self._heads
        super().data_received(data)
        if was_in_head and self._heads == heads:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(431, "the request head is too long", "request_head_too_large")

    def send_400_response(self, msg: str) -> None:
        self._refuse(*(self.refusal or (400, msg, "invalid_http")))

    def _should_upgrade(self) -> bool:
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade we could not overlook: what follows may be its body or anything else, so nothing may follow."""
        self._refuse(400, "this server does not upgrade connections", "invalid_http")

    def _look(self) -> None:
        """Give up on a sender whose time is over; else look again when it will be."""
        if self.transport.is_closing():
            self._look_at_unsent()
            return
        now_seconds = self.loop.time()
        if self.flow.read_paused or (self._watch.awaited is Awaited.HEAD and self._is_answering()):
            self._watch.excuse(now_seconds)
        remaining_seconds = self._watch.remaining_seconds(now_seconds)
        if remaining_seconds <= 0:
            self._give_up()
            remaining_seconds = self.limits.body_stall_seconds
        self._look_timer = self.loop.call_later(remaining_seconds, self._look)

    def _give_up(self) -> None:
        if not self._has_sent or self._has_answered_body():
            self.transport.close()
        else:
            what = "head did not end" if self._watch.awaited is Awaited.HEAD else "body stopped coming"
            self._refuse(408, f"the request's {what} in time", "request_timeout")

    def _look_at_unsent(self) -> None:
        """A connection that closes first sends what is unsent; a peer that takes nothing would keep it for good."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes == self._unsent_bytes:
            self.transport.abort()
        else:
            self._unsent_bytes = unsent_bytes
            # The kernel holds megabytes of its own; only what is slower than some 15 kB/s looks like standing still.
            self._look_timer = self.loop.call_later(2 * self.limits.body_stall_seconds, self._look)

    def _is_answering(self) -> bool:
        """Whether an earlier request is being answered, into which no refusal may be written."""
        return self._heads > 0 and not self.cycle.response_complete

    def _has_answered_body(self) -> bool:
        """Whether the request whose body is awaited has its answer, or part of it: one refused unread, say."""
        return self._watch.awaited is Awaited.BODY and self.cycle.response_started

    def _refuse(self, status: int, message: str, code: str) -> None:
        if self.is_answering_earlier():
            self.transport.close()
            return
        body = ApiError(status, message, code).body()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


def protocol_with(limits: ConnectionLimits) -> type[CorkedHttpProtocol]:
    """The protocol with these limits; uvicorn makes its instances and knows nothing of them."""

    class LimitedHttpProtocol(CorkedHttpProtocol):
        pass

    LimitedHttpProtocol.limits = limits
    return LimitedHttpProtocol


def _without_upgrade(data: bytes) -> bytes:
    """The start of a request less its offer to speak another protocol; as it was where the head is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or _UPGRADE.search(data, 0, end) is None:
        return data
    return _UPGRADE.sub(b"", data[:end]) + data[end:]
