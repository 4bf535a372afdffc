"""The engines of a simulation by name, and what each says of itself to the scheduler."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.simulation.energy_books import Account
from bench.simulation.engine import Engine, EngineState
from bench.simulation.engine_model import EngineModel
from scheduler.events import WorkerReady, WorkerReported

# An engine in which nothing happens says so this seldom.
_QUIET_REPORT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FleetSample:
    """All engines at one instant; energy and time awake are sums since time zero. One that starts counts as awake."""

    at_seconds: float
    energy_joules: float
    awake_seconds: float
    running_requests: int
    queued_requests: int


class Fleet:
    """Engines of one kind, all awake at time zero."""

    def __init__(self, model: EngineModel, workers: int) -> None:
        self.model = model
        width = len(str(workers - 1))
        self._engines = {f"worker-{number:0{width}}": Engine(model) for number in range(workers)}
        self._reported: dict[str, tuple[float, int]] = {}

    @property
    def engines(self) -> Mapping[str, Engine]:
        return self._engines

    @property
    def is_quiet(self) -> bool:
        """Nothing runs and nothing starts."""
        return all(engine.next_event_at_seconds is None for engine in self._engines.values())

    def ready(self, worker_id: str) -> WorkerReady:
        model = self.model
        return WorkerReady(
            worker_id,
            frozenset({model.name}),
            model.max_sequences,
            hardware=model.hardware,
            can_park=True,
            start_seconds=model.start_seconds,
        )

    def reports(self, now_seconds: float) -> list[WorkerReported]:
        """Of the awake engines that did something since their last report, or said nothing for long."""
        reports = []
        for worker_id, engine in self._engines.items():
            if engine.state is not EngineState.AWAKE:
                continue
            work = engine.work_at(now_seconds)
            reported_at_seconds, steps = self._reported.get(worker_id, (0.0, 0))
            if work.steps == steps and now_seconds - reported_at_seconds < _QUIET_REPORT_SECONDS:
                continue
            self._reported[worker_id] = now_seconds, work.steps
            reports.append(WorkerReported(worker_id, engine.running_requests, engine.waiting_requests, work))
        return reports

    def settle(self, now_seconds: float) -> None:
        """Book everything up to now; no engine has work."""
        for engine in self._engines.values():
            engine.settle(now_seconds)

    def microjoules_by_account(self) -> dict[Account, int]:
        books = [engine.books.microjoules_by_account for engine in self._engines.values()]
        return {account: sum(book[account] for book in books) for account in Account}

    def sample(self, now_seconds: float, queued_requests: int) -> FleetSample:
        engines = self._engines.values()
        return FleetSample(
            now_seconds,
            sum(engine.joules_at(now_seconds) for engine in engines),
            sum(engine.awake_seconds_at(now_seconds) for engine in engines),
            sum(engine.running_requests + engine.waiting_requests for engine in engines),
            queued_requests,
        )
