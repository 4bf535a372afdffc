"""uvicorn's HTTP/1.1 protocol with the writes of one turn of the event loop sent as one.

uvicorn writes a response's headers and its body separately, and a system call with the wake-up of the peer costs more
than everything else we do for a small answer. Collecting the writes of one turn halves them, and joins the chunks of a
stream that arrived together.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any, Final

from server.api_error import ApiError
from server.bounded_protocol import MAX_HEAD_BYTES, BoundedHttpProtocol

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
    """The protocol class handed to uvicorn: corked, with bounded request heads, and deaf to upgrades.

    Clients that offer HTTP/2 (`Upgrade: h2c`) with their first request mean the request all the same: RFC 9110 section
    7.8 has a server ignore what it does not speak. uvicorn would drop the body and read it as the next request.
    """

    _in_head = True
    _head_bytes = 0
    _heads = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(CorkedTransport(transport, self.loop))

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head, self._heads = False, self._heads + 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a head that has grown too long without an end."""
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


def _without_upgrade(data: bytes) -> bytes:
    """The start of a request less its offer to speak another protocol; as it was where the head is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or _UPGRADE.search(data, 0, end) is None:
        return data
    return _UPGRADE.sub(b"", data[:end]) + data[end:]
