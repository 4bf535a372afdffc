"""The workers as the front end sees them: how to reach each one, its state and its energy."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE
from scheduler.events import WorkerReported
from server.stored_responses import StoredResponses
from server.worker_energy import WorkerEnergy
from workers.client import EngineClient
from workers.engine import EngineReady
from workers.errors import EngineUnreachableError
from workers.loss import WorkerLoss
from workers.progress import DEFAULT_STALL_SECONDS, AwaitedAnswer, WorkerProgress
from workers.supervisor import Supervisor, WorkerState

logger = logging.getLogger("wattline.server")

_POLL_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 5.0
# An engine tells of what was cut off once the step it was in is over; those cut off together are asked for together.
_CHARGE_SECONDS: Final = 0.1


@dataclass(slots=True)
class Member:
    """One worker. `client` is there while the worker is ready or was until just now."""

    supervisor: Supervisor
    energy: WorkerEnergy
    progress: WorkerProgress
    client: EngineClient | None = None
    metered: bool = False
    models: frozenset[str] = field(default_factory=frozenset)
    listing: list[dict[str, Any]] = field(default_factory=list)
    charge_due: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def worker_id(self) -> str:
        return self.supervisor.engine.worker_id

    @property
    def is_ready(self) -> bool:
        return self.client is not None and self.supervisor.state is WorkerState.READY

    @property
    def may_serve(self) -> bool:
        """Whether a request finds it ready, or has it started and waits for that."""
        return self.is_ready or self.supervisor.is_parked


class Roster:
    """All workers. `on_request_charged(request_id, joules)` hears of ended requests once their energy is known.

    A worker that owes answers and makes no progress for `stall_seconds` is given up as hung. `stored` is which worker
    keeps which response, and for whom. `observers` are called with the present instant about once a second.
    """

    def __init__(
        self,
        on_request_charged: Callable[[str, float], None],
        *,
        stall_seconds: float = DEFAULT_STALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stall_seconds = stall_seconds
        self._clock = clock
        self.stored = StoredResponses()
        self.observers: list[Callable[[float], None]] = []
        self._members: dict[str, Member] = {}
        self._on_request_charged = on_request_charged
        self._closing: set[asyncio.Task[None]] = set()
        self._taking = asyncio.Lock()

    def add(self, supervisor: Supervisor) -> None:
        """Take in a worker before it is started."""
        worker_id = supervisor.engine.worker_id
        self._members[worker_id] = Member(
            supervisor,
            WorkerEnergy(worker_id, is_ours=supervisor.engine.can_park),
            WorkerProgress(self._stall_seconds),
        )

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

    async def has_died(self, worker_id: str) -> bool:
        """Whether a worker that answered with an error can serve no more; one that says so itself is given up.

        vLLM's API server outlives its engine by seconds in which it fails whatever it is sent.
        """
        member = self._members[worker_id]
        client = member.client
        if client is None or not member.is_ready:
            return True
        try:
            status = await client.health_status()
        except EngineUnreachableError:
            return True
        if status is None or status < 500:
            return False
        if member.client is client and member.is_ready:
            self._give_up(member, f"its engine has died: GET /health answered {status}", WorkerLoss.DIED)
        return True

    def is_served_elsewhere(self, model: str, but_worker_ids: Collection[str]) -> bool:
        """Whether a ready worker that is none of these serves the model."""
        return any(model in member.models and member.worker_id not in but_worker_ids for member in self.ready())

    def sent(self, worker_id: str) -> AwaitedAnswer:
        """A request goes to this worker: its answer is awaited from now on, and judged by. `end` it in any case."""
        return AwaitedAnswer(self._members[worker_id].progress, self._clock)

    def charge_soon(self, worker_id: str) -> None:
        """A request was cut off on this worker: what it used shall not wait for the next turn.

        Until it is known budgets count it as nothing, and who leaves and comes again would get past them.
        """
        self._members[worker_id].charge_due.set()

    def is_metered(self, worker_id: str) -> bool:
        """Whether the worker writes energy blocks itself."""
        return self._members[worker_id].metered

    def meter_of(self, worker_id: str) -> tuple[str | None, bool]:
        """What the worker last said it measures by, and whether that reads hardware."""
        energy = self._members[worker_id].energy
        return energy.source, energy.measured

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
        member.progress.started(self._clock())
        member.charge_due.set()  # what it has spent for others is to be known before it spends anything for us
        if stale is not None:
            self._close(stale.abort(), worker_id)

    async def poll(self, tell: Callable[[WorkerReported], None]) -> None:
        """Refresh every worker's telemetry and look for hung ones, again and again, until cancelled.

        Each worker on its own: one that is silent keeps nobody from being heard.
        """
        async with asyncio.TaskGroup() as group:
            for member in self._members.values():
                group.create_task(self._poll_member(member, tell), name=f"poll {member.worker_id}")
            group.create_task(self._watch_progress(), name="watch the workers' progress")

    async def take_last_report(self, worker_id: str) -> None:
        """Ask a worker that is to be stopped for its energy: what it spent since the last poll dies with it."""
        await self._refresh(self._members[worker_id])

    async def refresh(self) -> None:
        """Ask every ready worker for its energy now, all at once; a slow one keeps its last report."""
        await asyncio.gather(*(self._refresh(member) for member in self._members.values()))

    async def _poll_member(self, member: Member, tell: Callable[[WorkerReported], None]) -> None:
        while True:
            member.charge_due.clear()
            is_fresh = await self._refresh(member)
            if member.is_ready and (is_fresh or not member.metered):
                report = member.energy
                tell(
                    WorkerReported(member.worker_id, report.running_requests, report.waiting_requests, work=report.work)
                )
            if member.progress.needs_probe:
                await self._probe(member)
            with contextlib.suppress(TimeoutError):
                # Not wait_for: where the event is set as we are cancelled, it would forget that we are (CPython 3.11).
                async with asyncio.timeout(_POLL_SECONDS):
                    await member.charge_due.wait()
                if member.energy.has_reported or not member.metered:
                    await asyncio.sleep(_CHARGE_SECONDS)

    async def _probe(self, member: Member) -> None:
        client = member.client
        if client is not None and await client.get_json("/v1/models", _PROBE_SECONDS) is not None:
            member.progress.probe_answered(self._clock())

    async def _watch_progress(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for observer in self.observers:
                observer(self._clock())
            for member in self._members.values():
                cause = member.progress.is_hung(self._clock())
                if cause is not None:
                    self._give_up(member, cause, WorkerLoss.HUNG)

    def _give_up(self, member: Member, cause: str, loss: WorkerLoss) -> None:
        """Break off all that is awaited from a worker that will not answer, so that it may be tried elsewhere."""
        logger.error("worker %s is given up: %s", member.worker_id, cause)
        member.progress.started(self._clock())
        member.supervisor.hang(cause, loss)
        client, member.client = member.client, None
        if client is not None:
            self._close(client.abort(), member.worker_id)

    def _close(self, closing: Coroutine[Any, Any, None], worker_id: str) -> None:
        task = asyncio.create_task(closing, name=f"close the old connections of {worker_id}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        for member in self._members.values():
            if member.client is not None:
                await member.client.close()

    async def _refresh(self, member: Member) -> bool:
        """Whether it has told something new."""
        if not member.is_ready:
            member.energy.gone()
            return False
        client = member.client
        if not member.metered or client is None:
            return False
        report = await client.get_json("/energy")
        async with self._taking:
            await asyncio.sleep(0)  # fifty workers answer at once: what else is due comes in between
            return self._take(member, client, report)

    def _take(self, member: Member, client: EngineClient, report: object) -> bool:
        if not isinstance(report, dict) or member.client is not client:  # it may have begun another life meanwhile
            return False
        try:
            ended = member.energy.take(report)
        except ValueError as error:
            # A worker of another version, or another server altogether: it may not take this one down.
            logger.warning("worker %s sent an energy report we cannot read: %s", member.worker_id, error)
            member.progress.reported(None, self._clock())
            return False
        member.progress.reported(member.energy.work, self._clock())
        for request_id, microjoules in ended:
            self._on_request_charged(request_id, microjoules / MICROJOULES_PER_JOULE)
        return True
