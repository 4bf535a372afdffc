"""The capability every kind of worker offers, and what it says of itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an engine listens: an HTTP origin, reached through a unix socket when `socket_path` is set."""

    origin: str
    socket_path: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineReady:
    """What a ready engine serves. `metered` is true when it reports energy of its own (`GET /energy`)."""

    models: frozenset[str]
    metered: bool


class Engine(Protocol):
    """One OpenAI-compatible server. May be started again after it was lost or stopped."""

    @property
    def worker_id(self) -> str: ...

    @property
    def address(self) -> EngineAddress: ...

    @property
    def can_park(self) -> bool:
        """Whether its process is ours to stop and to start again."""
        ...

    async def start(self) -> None:
        """Begin starting; returns before the engine is ready.

        Raises:
            EngineStartError: it cannot be started at all.
        """
        ...

    async def wait_ready(self) -> EngineReady:
        """Return once it serves requests.

        Raises:
            EngineStartError: it gave up before it was ready.
        """
        ...

    async def wait_lost(self) -> str:
        """Return, with the cause, once a ready engine has ended or stopped answering."""
        ...

    async def stop(self, grace_seconds: float) -> None:
        """End it and everything it started, politely first. Does nothing to an engine we did not start."""
        ...
