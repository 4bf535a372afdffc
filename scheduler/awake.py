"""Which workers are awake: parks those that idle longer than starting again is worth, starts those that will be needed.

Decides over a fleet and changes in it only what its own commands imply; which request runs where is not its concern.
"""

from collections.abc import Iterable
from math import ceil, inf
from typing import Final

from scheduler.commands import Park, Start, WorkerCommand
from scheduler.fleet import Fleet, WorkerRecord
from scheduler.lane import Lane
from scheduler.limits import SchedulerLimits
from scheduler.ordered_ids import OrderedIds
from scheduler.phases import WorkerPhase
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker

# How long an answer to "how many are wanted?" holds; the forecast behind it changes over many seconds.
_FORECAST_SECONDS: Final = 1.0
# How soon a worker that is due but still wanted is considered again.
_AGAIN_SECONDS: Final = 5.0
# A worker of which more than this is needed keeps requests waiting: queues grow as 1 / (1 - utilisation).
_FULL_RATIO: Final = 0.6
# Under a power cap: the batch at which power has nearly stopped to grow, and one that is still worth being awake for.
_FULL_BATCH: Final = 256
_SMALL_BATCH: Final = 8
# A start that takes so many times as long as the last one has most likely failed without saying so.
_OVERDUE_STARTS: Final = 3.0
# Demand fades but never ends; what keeps a worker busy for less than a hundredth of the time keeps none awake.
_LEAST_DEMAND_WORKERS: Final = 0.01


class Awake:
    """Parks and starts workers. `is_enabled` is false under policies that use all workers all the time."""

    def __init__(self, fleet: Fleet, limits: SchedulerLimits, targets: LatencyTargets, *, is_enabled: bool) -> None:
        self._fleet = fleet
        self._limits = limits
        self._targets = targets
        self._is_enabled = is_enabled
        self._is_draining = False
        self._due: OrderedIds[tuple[float, int]] = OrderedIds()
        self._overdue: OrderedIds[tuple[float, int]] = OrderedIds()
        self._late_ids: set[str] = set()
        self._forecasts: dict[str, tuple[float, tuple[int, float]]] = {}

    def next_wakeup(self) -> float | None:
        """When an idle worker has idled for long enough, or a start is overdue, or None."""
        instants = [first[0][0] for one in (self._due, self._overdue) if (first := one.first()) is not None]
        return min(instants, default=None)

    def take_overdue(self, now_seconds: float) -> bool:
        """Whether a start has become overdue since this was asked last."""
        is_any = False
        while (first := self._overdue.first()) is not None and first[0][0] <= now_seconds:
            self._overdue.discard(first[1])
            self._late_ids.add(first[1])
            is_any = True
        return is_any

    def drain(self) -> None:
        """Nothing is parked from now on, and started only where somebody would wait in vain."""
        self._is_draining = True
        self._due = OrderedIds()

    def refresh(self, worker: Worker, now_seconds: float) -> None:
        """A worker has become busy, idle or ready, or has left."""
        if worker.running_requests > 0 or worker.is_leaving:
            worker.idle_since_seconds = None
            self._due.discard(worker.worker_id)
        elif worker.idle_since_seconds is None or worker.worker_id not in self._due:
            if worker.idle_since_seconds is None:
                worker.idle_since_seconds = now_seconds
            if self._is_enabled and worker.can_park and not self._is_draining:
                self._consider_at(worker, worker.idle_since_seconds + worker.model.worthwhile_idle_seconds)

    def learned(self, worker: Worker, now_seconds: float) -> None:
        """What its idling costs is known better: it may be due sooner. That it is due later shows when it is."""
        is_parkable = self._is_enabled and worker.can_park and not worker.is_leaving and not self._is_draining
        if worker.idle_since_seconds is None or not is_parkable:
            return
        key = self._due.key(worker.worker_id)
        due_at_seconds = max(now_seconds, worker.idle_since_seconds + worker.model.worthwhile_idle_seconds)
        if key is None or key[0] > due_at_seconds + _AGAIN_SECONDS:
            self._consider_at(worker, due_at_seconds)

    def forget(self, worker_id: str) -> None:
        """A worker has gone."""
        self._due.discard(worker_id)
        self._overdue.discard(worker_id)
        self._late_ids.discard(worker_id)

    def park_idle(self, now_seconds: float) -> list[WorkerCommand]:
        """Park every worker that is due and not wanted."""
        commands: list[WorkerCommand] = []
        while (first := self._due.first()) is not None and first[0][0] <= now_seconds:
            worker = self._fleet.worker(first[1])
            self._due.discard(first[1])
            if worker is None or worker.idle_since_seconds is None or not worker.can_park:
                continue
            due_at_seconds = worker.idle_since_seconds + worker.model.worthwhile_idle_seconds
            if due_at_seconds > now_seconds:  # its idle power has become known since
                self._consider_at(worker, due_at_seconds)
            elif self._is_spare(worker, now_seconds):
                why = f"more than the {worker.model.start_joules:.0f} J of a start"
                commands.append(self._park(worker, now_seconds, why))
            else:
                self._consider_at(worker, now_seconds + _AGAIN_SECONDS)
        return commands

    def park_for_power(self, lane: Lane, now_seconds: float) -> list[WorkerCommand]:
        """Park what idles in a lane where the power cap keeps a request waiting: that power is wanted elsewhere."""
        if not self._is_enabled or self._is_draining:
            return []
        commands: list[WorkerCommand] = []
        for worker in reversed(lane.workers):
            is_idle = worker.running_requests == 0 and worker.can_park and not worker.is_leaving
            if is_idle and all(self._can_spare_one(one) for one in self._fleet.lanes_of(worker)):
                commands.append(self._park(worker, now_seconds, "its power is wanted elsewhere"))
        return commands

    def start_needed(
        self, lanes: Iterable[Lane], now_seconds: float, *, at_risk: str | None = None
    ) -> list[WorkerCommand]:
        """Start what the demand wants; `at_risk` says why one more is needed even so."""
        commands: list[WorkerCommand] = []
        if self._is_enabled:
            for lane in lanes:
                commands += self._start_in(lane, now_seconds, at_risk)
        return commands

    def may_sleep(self, lane: Lane) -> bool:
        """Whether none of its workers is awake, or all of them may be parked while a request is held back."""
        return self._is_enabled and (not lane.workers or self._limits.least_workers(lane.model) == 0)

    def forecast(self, lane: Lane, now_seconds: float) -> tuple[int, float]:
        """How many workers of a lane must be awake, and the demand in workers behind it. Changes nothing."""
        demand_workers, wanted = 0.0, 0
        if lane.workers:
            demand_workers = lane.demand.workers(lane.workers[0], self._targets, lane.pool.pressure_ratio, now_seconds)
            if demand_workers >= _LEAST_DEMAND_WORKERS:
                wanted = ceil(demand_workers / (_FULL_RATIO * lane.pool.margin.ratio))
        return max(self._limits.least_workers(lane.model), min(wanted, self._affordable(lane))), demand_workers

    def _wanted_now(self, lane: Lane, now_seconds: float) -> tuple[int, float]:
        """The forecast, made anew once a second: it is asked for with every request."""
        known = self._forecasts.get(lane.model)
        if known is not None and 0 <= now_seconds - known[0] < _FORECAST_SECONDS:
            return known[1]
        forecast = self.forecast(lane, now_seconds)
        self._forecasts[lane.model] = now_seconds, forecast
        return forecast

    def _consider_at(self, worker: Worker, at_seconds: float) -> None:
        if at_seconds < inf:
            self._due.push((at_seconds, -worker.ready_number), worker.worker_id)

    def _is_spare(self, worker: Worker, now_seconds: float) -> bool:
        """Whether each model it serves has enough workers without it, and nobody waits for one now."""
        if not worker.model.is_trusted(now_seconds):
            return False
        for lane in self._fleet.lanes_of(worker):
            others = lane.awake_workers - 1
            if lane.has_urgent or others < self._wanted_now(lane, now_seconds)[0]:
                return False
        return True

    def _can_spare_one(self, lane: Lane) -> bool:
        return lane.awake_workers > max(1, self._limits.least_workers(lane.model))

    def _park(self, worker: Worker, now_seconds: float, why: str) -> Park:
        idle_seconds = 0.0 if worker.idle_since_seconds is None else now_seconds - worker.idle_since_seconds
        saved_watts = worker.model.idle_watts - worker.model.parked_watts
        self._fleet.parking(worker)
        self.refresh(worker, now_seconds)
        return Park(worker.worker_id, f"idle for {idle_seconds:.0f} s at {saved_watts:.1f} W above parked: {why}")

    def _start_in(self, lane: Lane, now_seconds: float, at_risk: str | None) -> list[WorkerCommand]:
        awake = lane.awake_workers
        if awake == len(lane.expected_worker_ids):
            return []
        starting = self._on_their_way(lane)
        if self._is_draining and (lane.is_empty or awake + starting > 0):
            return []
        wanted, demand_workers = self._wanted_now(lane, now_seconds)
        reason = f"demand for {demand_workers:.2f} workers wants {wanted} awake"
        if awake + starting == 0 and lane.has_urgent:
            at_risk = at_risk or f"{lane.pool.waiting_requests} requests wait and no worker is awake"
        if wanted <= awake + starting and at_risk is not None and starting == 0:
            wanted, reason = awake + 1, at_risk
        commands: list[WorkerCommand] = []
        for record in self._fleet.parked_in(lane, wanted - awake - starting):
            is_first = awake + starting + len(commands) == 0  # a cap must not leave a model with none at all
            if not is_first and not self._has_power_for(record):
                break
            self._fleet.starting(record, now_seconds)
            self._late_ids.discard(record.worker_id)
            overdue_at_seconds = now_seconds + _OVERDUE_STARTS * record.model.start_seconds
            self._overdue.push((overdue_at_seconds, record.generation), record.worker_id)
            commands.append(Start(record.worker_id, reason))
        return commands

    def _on_their_way(self, lane: Lane) -> int:
        """How many workers are starting; one whose start is overdue may never come, and counts no more."""
        late = (self._fleet.record(worker_id) for worker_id in self._late_ids)
        is_late = (one is not None and one.phase is WorkerPhase.STARTING and lane.model in one.models for one in late)
        return lane.phases.count(WorkerPhase.STARTING) - sum(is_late)

    def _affordable(self, lane: Lane) -> int:
        """How many workers the power cap lets run at a full batch; a few full ones do more than many starved ones."""
        cap_watts = self._limits.power_cap_watts
        if cap_watts is None or not lane.workers:
            return len(lane.expected_worker_ids)
        model = lane.workers[0].model
        full_watts = max(1.0, model.power.at(_FULL_BATCH) - model.parked_watts)
        spare_watts = max(0.0, cap_watts - len(self._fleet.records) * model.parked_watts)
        full, rest_watts = divmod(spare_watts, full_watts)
        # What is left may do for one more at a small batch.
        return max(1, int(full) + (rest_watts >= model.power.at(_SMALL_BATCH) - model.parked_watts))

    def _has_power_for(self, record: WorkerRecord) -> bool:
        """Whether the power cap would let it do something once it has started."""
        cap_watts = self._limits.power_cap_watts
        more_watts = record.model.power.at(_SMALL_BATCH) - record.model.parked_watts
        return cap_watts is None or self._fleet.predicted_watts + more_watts <= cap_watts
