"""All workers, whatever their state, and for each model the lane that its requests wait in.

Keeps who serves what, through workers that come, change, park, go and return, and what they are predicted to draw. It
knows nothing of policies, and of requests only that lanes hold them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from math import inf

from scheduler.events import WorkerLost, WorkerReady, WorkerReported
from scheduler.lane import Lane
from scheduler.phases import WorkerPhase
from scheduler.worker import Worker
from scheduler.worker_model import WorkerModel


@dataclass(slots=True, eq=False)
class WorkerRecord:
    """What is kept of a worker over all its lives. `worker` is its present one, None while it serves nothing.

    `returns_at_seconds` is when a lost or starting one is expected, infinite where nobody can say. `watts` is what it
    is predicted to draw now.
    """

    worker_id: str
    model: WorkerModel
    models: frozenset[str] = frozenset()
    phase: WorkerPhase = WorkerPhase.READY
    generation: int = 0
    can_park: bool = False
    worker: Worker | None = None
    may_return: bool = True
    returns_at_seconds: float = inf
    watts: float = field(default=0.0)


class Fleet:
    """Workers by id and lanes by model; a lane exists for each model configured or ever announced."""

    def __init__(self, models: Iterable[str], most_waiting_requests: int = 1024) -> None:
        self._most_waiting_requests = most_waiting_requests
        # Sorted, so that the order of lanes never depends on the hash of a string.
        self._lanes = {model: self._new_lane(model) for model in sorted(models)}
        self._records: dict[str, WorkerRecord] = {}
        self._ready_reports = 0
        self.predicted_watts = 0.0

    @property
    def lanes(self) -> Collection[Lane]:
        return self._lanes.values()

    @property
    def records(self) -> Collection[WorkerRecord]:
        return self._records.values()

    @property
    def models(self) -> Collection[str]:
        return self._lanes.keys()

    def lane(self, model: str) -> Lane | None:
        return self._lanes.get(model)

    def record(self, worker_id: str) -> WorkerRecord | None:
        return self._records.get(worker_id)

    def worker(self, worker_id: str) -> Worker | None:
        record = self._records.get(worker_id)
        return None if record is None else record.worker

    def lanes_of(self, worker: Worker) -> list[Lane]:
        return [self._lanes[model] for model in sorted(worker.models)]

    def parked_in(self, lane: Lane, most: int) -> list[WorkerRecord]:
        """Up to so many of a lane's parked workers, by id."""
        return [self._records[worker_id] for worker_id in lane.phases.first(WorkerPhase.PARKED, most)]

    def returns_at_seconds(self, lane: Lane) -> float:
        """When the first worker of the lane is expected to serve, infinite where nobody can say.

        A lane nobody has announced yet waits for its first worker, which is being started: that is now.
        """
        if lane.workers or not lane.was_announced:
            return -inf
        soonest = inf
        for worker_id in lane.expected_worker_ids:
            record = self._records[worker_id]
            soonest = min(soonest, record.returns_at_seconds if record.phase is WorkerPhase.LOST else -inf)
        return soonest

    def start_seconds(self, lane: Lane) -> float:
        """What starting the quickest worker of the lane is expected to take; 0 where none is known."""
        return min((self._records[one].model.start_seconds for one in lane.expected_worker_ids), default=0.0)

    def ready(self, event: WorkerReady, now_seconds: float) -> Worker:
        """Take in a worker that is new, is back, or announces itself anew."""
        self._ready_reports += 1
        record = self._records.get(event.worker_id)
        if record is None:
            record = self._records[event.worker_id] = WorkerRecord(event.worker_id, WorkerModel(event.hardware))
        worker = record.worker
        if worker is None:
            worker = self._open_generation(event, record, now_seconds)
        else:
            for model in worker.models:  # its number is part of its place in the pools
                self._lanes[model].pool.discard(worker)
            worker.refresh(event, self._ready_reports)
        worker.is_leaving = record.phase is WorkerPhase.PARKING
        record.models, record.can_park, record.may_return = event.models, event.can_park, True
        self._join_lanes(worker)
        self._enter(record, WorkerPhase.PARKING if worker.is_leaving else WorkerPhase.READY)
        self.refresh(worker)
        return worker

    def reported(self, event: WorkerReported, now_seconds: float) -> None:
        """Learn from a report. One that comes after the worker was lost is old news and dropped."""
        worker = self.worker(event.worker_id)
        if worker is not None:
            worker.reported = event
            worker.model.observe(event.work, worker.running_requests, now_seconds)
            self._draw(self._records[event.worker_id])

    def parking(self, worker: Worker) -> None:
        """It has been told to park: it gets nothing more."""
        worker.is_leaving = True
        self._enter(self._records[worker.worker_id], WorkerPhase.PARKING)
        self.refresh(worker)

    def parked(self, worker_id: str) -> None:
        """Its process has stopped."""
        record = self._records.get(worker_id)
        if record is not None:
            self._close_generation(record)
            self._enter(record, WorkerPhase.PARKED)
            self._draw(record)

    def starting(self, record: WorkerRecord, now_seconds: float) -> None:
        """It has been told to start."""
        self._enter(record, WorkerPhase.STARTING)
        record.returns_at_seconds = now_seconds + record.model.start_seconds
        self._draw(record)

    def lost(self, event: WorkerLost, now_seconds: float) -> None:
        """Close a worker's generation. A second report may only add that it will not return."""
        record = self._records.get(event.worker_id)
        if record is None:
            return
        self._close_generation(record)
        record.may_return = record.may_return and event.may_return
        self._enter(record, WorkerPhase.LOST)
        record.returns_at_seconds = inf if event.returns_in_seconds is None else now_seconds + event.returns_in_seconds
        self._draw(record)
        if not event.may_return:
            for lane in self._lanes.values():
                lane.expected_worker_ids.discard(event.worker_id)

    def refresh(self, worker: Worker) -> None:
        """Its load or its standing has changed: so do its places in the pools and what it draws."""
        record = self._records[worker.worker_id]
        if record.worker is not worker:
            return
        for model in worker.models:
            self._lanes[model].pool.refresh(worker)
        self._draw(record)

    def _open_generation(self, event: WorkerReady, record: WorkerRecord, now_seconds: float) -> Worker:
        if record.model.hardware != event.hardware:
            record.model = WorkerModel(event.hardware)
        record.generation += 1
        record.phase = WorkerPhase.READY
        record.model.begin(now_seconds, event.start_seconds)
        record.worker = Worker(
            worker_id=event.worker_id,
            generation=record.generation,
            ready_number=self._ready_reports,
            models=event.models,
            max_running_requests=event.max_running_requests,
            model=record.model,
            can_park=event.can_park,
            idle_since_seconds=now_seconds,
        )
        return record.worker

    def _close_generation(self, record: WorkerRecord) -> None:
        worker, record.worker = record.worker, None
        if worker is not None:
            for lane in self._lanes.values():
                lane.remove_worker(worker)

    def _join_lanes(self, worker: Worker) -> None:
        for model in sorted(worker.models):
            if model not in self._lanes:
                self._lanes[model] = self._new_lane(model)
            self._lanes[model].add_worker(worker)
        for lane in self._lanes.values():
            if lane.model not in worker.models:
                lane.remove_worker(worker)
                lane.expected_worker_ids.discard(worker.worker_id)
                lane.phases.move(worker.worker_id, None)

    def _enter(self, record: WorkerRecord, phase: WorkerPhase) -> None:
        """It is in this phase from now on, for each of its models; one that will not return is in none there."""
        record.phase = phase
        for model in record.models:
            self._lanes[model].phases.move(record.worker_id, phase if record.may_return else None)

    def _draw(self, record: WorkerRecord) -> None:
        """Predict its power anew and correct the sum."""
        model, worker = record.model, record.worker
        if worker is not None:
            watts = model.watts(worker.running_requests)
        elif record.phase is WorkerPhase.PARKED or not record.may_return:
            watts = model.parked_watts
        else:
            watts = model.idle_watts
        self.predicted_watts += watts - record.watts
        record.watts = watts

    def _new_lane(self, model: str) -> Lane:
        lane = Lane(model)
        lane.pool.most_waiting_requests = self._most_waiting_requests
        return lane
