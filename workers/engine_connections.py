"""The connections to one engine: as many as there are requests at a time, kept for the next ones for a short while."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from workers.engine import EngineAddress
from workers.engine_connection import EngineAnswer, EngineConnection
from workers.errors import EngineUnreachableError

_CONNECT_SECONDS: Final = 5.0
# vLLM closes idle connections after 5 s: ours go first, so that a request seldom meets one that is closing.
_KEEP_ALIVE_SECONDS: Final = 3.0
_HTTP_PORT: Final = 80


class EngineConnections:
    """Opens, lends and keeps connections to an engine that is spoken to without TLS."""

    def __init__(self, address: EngineAddress) -> None:
        parts = urlsplit(address.origin)
        self._socket_path = address.socket_path
        self._host, self._port = parts.hostname or "", parts.port or _HTTP_PORT
        self._host_line = f"Host: {parts.netloc.rpartition('@')[2]}\r\n"
        self._loop = asyncio.get_running_loop()
        self._open: set[EngineConnection] = set()
        self._free: deque[EngineConnection] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> EngineAnswer:
        """Send one request; returns when the answer's headers have arrived.

        Raises:
            EngineUnreachableError: the engine could not be reached, or broke off before its headers.
        """
        request = self._request(method, target, headers, body)
        try:
            connection = self._kept() or await self._connect()
            answer = connection.ask(request)
            try:
                await answer.begin()
            except BaseException:
                answer.close()
                raise
        except (OSError, TimeoutError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error
        return answer

    def abort(self) -> None:
        """Close all of them; whoever awaits an answer gets an error."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in tuple(self._open):
            connection.abort()

    def _request(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
            raise EngineUnreachableError("a header holds a line break")
        head = f"{method} {target} HTTP/1.1\r\n{self._host_line}{lines}"
        if body is None:
            return f"{head}\r\n".encode("latin-1")
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body

    def _kept(self) -> EngineConnection | None:
        """The one used last of those that are still good, so that the others grow old."""
        self._close_old()
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                return connection
        return None

    async def _connect(self) -> EngineConnection:
        def make() -> EngineConnection:
            return EngineConnection(self._freed, self._lost)

        async with asyncio.timeout(_CONNECT_SECONDS):
            if self._socket_path is not None:
                _, connection = await self._loop.create_unix_connection(make, str(self._socket_path))
            else:
                _, connection = await self._loop.create_connection(make, self._host, self._port)
        self._open.add(connection)
        return connection

    def _freed(self, connection: EngineConnection) -> None:
        connection.free_since_seconds = self._loop.time()
        self._free.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(_KEEP_ALIVE_SECONDS, self._sweep_free)

    def _lost(self, connection: EngineConnection) -> None:
        self._open.discard(connection)

    def _sweep_free(self) -> None:
        self._sweep = None
        self._close_old()
        if self._free:
            self._sweep = self._loop.call_later(_KEEP_ALIVE_SECONDS, self._sweep_free)

    def _close_old(self) -> None:
        oldest_seconds = self._loop.time() - _KEEP_ALIVE_SECONDS
        while self._free and (self._free[0].free_since_seconds < oldest_seconds or not self._free[0].is_open):
            self._free.popleft().abort()
