"""An OpenAI-compatible server that somebody else runs, attached by its URL."""

import asyncio
from pathlib import Path
from typing import Final

from workers.client import EngineClient
from workers.engine import EngineAddress, EngineReady

_START_POLL_SECONDS: Final = 0.5
_HEALTH_POLL_SECONDS: Final = 2.0
# Three misses in a row, so that one slow answer under load does not take a worker out.
_MISSES_UNTIL_LOST: Final = 3


class RemoteEngine:
    """Found ready when it lists its models, lost when it no longer does. Never stopped by us.

    `url` is an http:// or https:// origin, or unix:/PATH for a server on a unix socket.
    """

    def __init__(self, worker_id: str, url: str) -> None:
        self._worker_id = worker_id
        path = url.removeprefix("unix:")
        self._address = EngineAddress(url) if path == url else EngineAddress("http://engine", socket_path=Path(path))

    @property
    def worker_id(self) -> str:
        return self._worker_id

    @property
    def address(self) -> EngineAddress:
        return self._address

    @property
    def can_park(self) -> bool:
        return False

    async def start(self) -> None:
        """Nothing to start."""

    async def wait_ready(self) -> EngineReady:
        """Poll until it answers, for as long as that takes."""
        client = EngineClient(self._address)
        try:
            while (ready := await client.probe()) is None:  # noqa: ASYNC110  # it is another machine's state
                await asyncio.sleep(_START_POLL_SECONDS)
            return ready
        finally:
            await client.close()

    async def wait_lost(self) -> str:
        """Return once it has failed to list its models several times in a row."""
        client = EngineClient(self._address)
        try:
            misses = 0
            while misses < _MISSES_UNTIL_LOST:
                await asyncio.sleep(_HEALTH_POLL_SECONDS)
                misses = misses + 1 if await client.get_json("/v1/models") is None else 0
            return f"it did not answer {misses} times in a row"
        finally:
            await client.close()

    async def stop(self, grace_seconds: float) -> None:
        """Nothing of ours to stop."""
