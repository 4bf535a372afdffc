"""Speaks HTTP to one engine. Bytes in, bytes out; knows nothing of what they mean."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

import aiohttp
from pydantic_core import from_json
from yarl import URL

from workers.engine import EngineAddress, EngineReady
from workers.engine_connection import EngineAnswer
from workers.engine_connections import EngineConnections
from workers.errors import EngineUnreachableError
from workers.listing import models_in

_CONNECT_SECONDS: Final = 5.0
_PROBE_SECONDS: Final = 5.0
# A busy engine's event loop can take its time; a scrape waits no longer than this for its telemetry.
_TELEMETRY_SECONDS: Final = 2.0
# A response's headers and single lines from an engine we chose to trust; aiohttp's default of 8 KiB is for strangers.
_MAX_FIELD_BYTES: Final = 64 * 1024
# vLLM closes idle connections after 5 s: ours go first, so that a request seldom meets one that is closing.
_KEEP_ALIVE_SECONDS: Final = 3.0
_KEPT_URLS: Final = 64
# The event loop tells of an aborted connection in its next round; more is a reserve.
_ABORT_SECONDS: Final = 1.0


class EngineClient:
    """A pool of connections to one engine. Make it inside a running event loop; close it at the end."""

    def __init__(self, address: EngineAddress) -> None:
        connector: aiohttp.BaseConnector
        if address.socket_path is not None:
            connector = aiohttp.UnixConnector(
                path=str(address.socket_path), limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS
            )
        else:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        # Engines behind TLS are on other hosts, where the time that a general client takes is lost in the network's.
        is_plain = address.socket_path is not None or address.origin.startswith("http://")
        self._connections = EngineConnections(address) if is_plain else None
        self.address = address
        self._origin = address.origin.rstrip("/")
        self._urls: dict[str, URL] = {}
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            read_bufsize=256 * 1024,
            max_field_size=_MAX_FIELD_BYTES,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
        )

    async def send(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes | None
    ) -> EngineAnswer:
        """Send one request; returns when the response's headers have arrived. `target` is path and query, encoded.

        Raises:
            EngineUnreachableError: the engine could not be reached, or broke off before its headers.
        """
        if self._session.closed:
            raise EngineUnreachableError("its connections have been closed")
        if self._connections is not None:
            return await self._connections.send(method, target, headers, body)
        url = self._url(target)
        try:
            answer = await self._session.request(method, url, headers=headers, data=body, allow_redirects=False)
            return cast(
                "EngineAnswer", answer
            )  # it offers the same, and its errors are among those that callers expect
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error

    async def get_json(self, target: str, timeout_seconds: float = _TELEMETRY_SECONDS) -> Any | None:  # noqa: ANN401
        """The JSON answer to a GET, or None when it is not a 200, not JSON, or not there in time."""
        if self._session.closed:
            return None
        try:
            async with asyncio.timeout(timeout_seconds), await self.send("GET", target, (), None) as response:
                return from_json(await response.read()) if response.status == 200 else None
        except (EngineUnreachableError, aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError):
            return None

    async def post_json(self, target: str, body: bytes, timeout_seconds: float) -> tuple[int, bytes] | None:
        """Status and body of the answer to a POST of JSON, or None when there was none in time."""
        if self._session.closed:
            return None
        try:
            async with asyncio.timeout(timeout_seconds):
                headers = {"Content-Type": "application/json"}
                response = await self._session.post(self._url(target), data=body, headers=headers)
                async with response:
                    return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def health_status(self) -> int | None:
        """The status of its `GET /health`, 5xx where the engine knows itself broken; None where it is silent.

        Raises:
            EngineUnreachableError: nobody is there to ask.
        """
        if self._session.closed:
            raise EngineUnreachableError("its connections have been closed")
        try:
            async with asyncio.timeout(_TELEMETRY_SECONDS), self._session.get(self._url("/health")) as response:
                return response.status
        except TimeoutError:
            return None
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error

    async def probe(self) -> EngineReady | None:
        """What the engine serves, or None while it does not answer."""
        models = models_in(await self.get_json("/v1/models", _PROBE_SECONDS))
        if models is None:
            return None
        energy = await self.get_json("/energy", _PROBE_SECONDS)
        names = frozenset(str(model["id"]) for model in models)
        return EngineReady(models=names, metered=isinstance(energy, dict) and "source" in energy)

    def _url(self, target: str) -> URL:
        """Parsed once for the few targets that make up all the traffic; a query is likely to be new each time."""
        url = self._urls.get(target)
        if url is None:
            url = URL(self._origin + target, encoded=True)
            if "?" not in target and len(self._urls) < _KEPT_URLS:
                self._urls[target] = url
        return url

    async def close(self) -> None:
        if self._connections is not None:
            self._connections.abort()
        await self._session.close()

    async def abort(self) -> None:
        """Close without waiting for anything: who awaits an answer gets EngineUnreachableError or aiohttp's error now.

        A mere close first sends what is still unsent, and a peer that is stopped never takes it.
        """
        if self._connections is not None:
            self._connections.abort()
        connector = self._session.connector
        lost: list[asyncio.Future[None]] = []
        # aiohttp offers no public way to abort, and its own leaves who reads a stream waiting for ever.
        for connection in tuple(connector._acquired) if connector is not None else ():  # noqa: SLF001
            if connection.transport is not None and (closed := connection.closed) is not None:
                lost.append(closed)
                connection.transport.abort()
        if lost:
            await asyncio.wait(lost, timeout=_ABORT_SECONDS)
        await self._session.close()
