"""The ready workers, and for each model the lane that its requests wait in.

Keeps who serves what, through workers that come, change, go and return. It knows nothing of time or of policies, and
of requests only that lanes hold them.
"""

from collections.abc import Collection, Iterable

from scheduler.events import WorkerLost, WorkerReady, WorkerReported
from scheduler.lane import Lane
from scheduler.worker import Worker


class Fleet:
    """Workers by id and lanes by model; a lane exists for each model configured or ever announced."""

    def __init__(self, models: Iterable[str]) -> None:
        # Sorted, so that the order of lanes never depends on the hash of a string.
        self._lanes = {model: Lane(model) for model in sorted(models)}
        self._workers: dict[str, Worker] = {}
        self._last_generation: dict[str, int] = {}
        self._ready_reports = 0

    @property
    def lanes(self) -> Collection[Lane]:
        return self._lanes.values()

    @property
    def workers(self) -> Collection[Worker]:
        return self._workers.values()

    @property
    def models(self) -> Collection[str]:
        return self._lanes.keys()

    def lane(self, model: str) -> Lane | None:
        return self._lanes.get(model)

    def worker(self, worker_id: str) -> Worker | None:
        return self._workers.get(worker_id)

    def lanes_of(self, worker: Worker) -> list[Lane]:
        return [self._lanes[model] for model in sorted(worker.models)]

    def ready(self, event: WorkerReady) -> Worker:
        """Take in a worker that is new, is back, or announces itself anew."""
        self._ready_reports += 1
        worker = self._workers.get(event.worker_id)
        if worker is None:
            worker = self._open_generation(event)
        else:
            worker.refresh(event, self._ready_reports)
        for model in sorted(event.models):
            if model not in self._lanes:
                self._lanes[model] = Lane(model)
            self._lanes[model].add_worker(worker)
        for lane in self._lanes.values():
            if lane.model not in event.models:
                lane.remove_worker(worker)
                lane.expected_worker_ids.discard(event.worker_id)
        return worker

    def reported(self, event: WorkerReported) -> None:
        """Keep the engine's own count. One that comes after the worker was lost is old news and dropped."""
        worker = self._workers.get(event.worker_id)
        if worker is not None:
            worker.reported = event

    def lost(self, event: WorkerLost) -> None:
        """Forget a worker's generation. A second report may only add that it will not return."""
        worker = self._workers.pop(event.worker_id, None)
        for lane in self._lanes.values():
            if worker is not None:
                lane.remove_worker(worker)
            if not event.may_return:
                lane.expected_worker_ids.discard(event.worker_id)

    def _open_generation(self, event: WorkerReady) -> Worker:
        generation = self._last_generation.get(event.worker_id, 0) + 1
        self._last_generation[event.worker_id] = generation
        worker = Worker(event.worker_id, generation, self._ready_reports, event.models, event.max_running_requests)
        self._workers[event.worker_id] = worker
        return worker
