"""The workers as the front end sees them: how to reach each one, its state and its energy."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE
from scheduler.events import WorkerReported
from server.worker_energy import WorkerEnergy
from workers.client import EngineClient
from workers.engine import EngineReady
from workers.supervisor import Supervisor, WorkerState

logger = logging.getLogger("wattline.server")

_POLL_SECONDS: Final = 1.0


@dataclass(slots=True)
class Member:
    """One worker. `client` is there while the worker is ready or was until just now."""

    supervisor: Supervisor
    energy: WorkerEnergy
    client: EngineClient | None = None
    metered: bool = False
    models: frozenset[str] = field(default_factory=frozenset)
    listing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def worker_id(self) -> str:
        return self.supervisor.engine.worker_id

    @property
    def is_ready(self) -> bool:
        return self.client is not None and self.supervisor.state is WorkerState.READY


class Roster:
    """All workers. `on_request_charged(request_id, joules)` hears of ended requests once their energy is known."""

    def __init__(self, on_request_charged: Callable[[str, float], None]) -> None:
        self._members: dict[str, Member] = {}
        self._on_request_charged = on_request_charged
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, supervisor: Supervisor) -> None:
        """Take in a worker before it is started."""
        worker_id = supervisor.engine.worker_id
        self._members[worker_id] = Member(supervisor, WorkerEnergy(worker_id))

    def members(self) -> Iterable[Member]:
        return self._members.values()

    def ready(self) -> list[Member]:
        return [member for member in self._members.values() if member.is_ready]

    def client(self, worker_id: str) -> EngineClient | None:
        """How to speak to a worker; None once it is gone."""
        return self._members[worker_id].client

    def suspect(self, worker_id: str) -> None:
        """A request broke off on this worker; have it looked at."""
        self._members[worker_id].supervisor.suspect()

    def is_metered(self, worker_id: str) -> bool:
        """Whether the worker writes energy blocks itself."""
        return self._members[worker_id].metered

    def engine_ready(self, worker_id: str, ready: EngineReady) -> None:
        """A worker has come up, for the first time or again: its address may be new."""
        member = self._members[worker_id]
        address = member.supervisor.engine.address
        stale: EngineClient | None = None
        # A worker that only fell silent for a while comes back at the same place, and may still be answering requests.
        if member.client is None or member.client.address != address:
            stale, member.client = member.client, EngineClient(address)
        member.metered = ready.metered
        member.models = ready.models
        member.listing = [{"id": name, "object": "model", "created": 0} for name in sorted(ready.models)]
        if stale is not None:
            closing = asyncio.create_task(stale.close(), name=f"close the old connections of {worker_id}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def poll(self, tell: Callable[[WorkerReported], None]) -> None:
        """Refresh every worker's telemetry, again and again, until cancelled."""
        while True:
            await self.refresh()
            for member in self.ready():
                report = member.energy
                tell(WorkerReported(member.worker_id, report.running_requests, report.waiting_requests))
            await asyncio.sleep(_POLL_SECONDS)

    async def refresh(self) -> None:
        """Ask every ready worker for its energy now, all at once; a slow one keeps its last report."""
        await asyncio.gather(*(self._refresh(member) for member in self._members.values()))

    async def close(self) -> None:
        for member in self._members.values():
            if member.client is not None:
                await member.client.close()

    async def _refresh(self, member: Member) -> None:
        if not member.is_ready:
            member.energy.gone()
            return
        if not member.metered or member.client is None:
            return
        report = await member.client.get_json("/energy")
        if not isinstance(report, dict):
            return
        try:
            ended = member.energy.take(report)
        except ValueError as error:
            # A worker of another version, or another server altogether: it may not take this one down.
            logger.warning("worker %s sent an energy report we cannot read: %s", member.worker_id, error)
            return
        for request_id, microjoules in ended:
            self._on_request_charged(request_id, microjoules / MICROJOULES_PER_JOULE)
