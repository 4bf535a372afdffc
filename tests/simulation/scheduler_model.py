"""What the scheduler must have done, kept the slow and obvious way: the reference for the simulation.

It never predicts a choice; it checks each command against the rules, then takes it as given.
"""

from dataclasses import dataclass

from scheduler.commands import Command, Dispatch, Reject, RejectCause
from scheduler.events import RequestArrived, WorkerReady
from scheduler.limits import SchedulerLimits


@dataclass
class ModelWorker:
    models: frozenset[str]
    places: int
    generation: int
    announcement: int


@dataclass
class ModelRequest:
    arrival: RequestArrived
    number: int
    worker: tuple[str, int] | None = None
    """Worker id and generation while it runs."""
    announcement: int = -1
    avoided: frozenset[int] = frozenset()
    queued_at_seconds: float = 0.0
    dispatches: int = 0


class SchedulerModel:
    def __init__(self, limits: SchedulerLimits, models: frozenset[str]) -> None:
        self.limits = limits
        self.workers: dict[str, ModelWorker] = {}
        self.requests: dict[str, ModelRequest] = {}
        self.served: list[str] = []
        self.over: list[str] = []
        self.may_serve: dict[str, set[str]] = {model: set() for model in models}
        self.announced: set[str] = set()
        self.generations: dict[str, int] = {}
        self.announcements = 0
        self.is_draining = False

    @property
    def queued(self) -> list[ModelRequest]:
        return [request for request in self.requests.values() if request.worker is None]

    @property
    def running(self) -> list[ModelRequest]:
        return [request for request in self.requests.values() if request.worker is not None]

    def load(self, worker_id: str) -> int:
        life = (worker_id, self.workers[worker_id].generation)
        return sum(request.worker == life for request in self.requests.values())

    def candidates(self, request: ModelRequest) -> list[str]:
        """The workers that have room for the request now."""
        return [
            worker_id
            for worker_id, worker in self.workers.items()
            if request.arrival.model in worker.models
            and worker.announcement not in request.avoided
            and self.load(worker_id) < worker.places
        ]

    def expires_at_seconds(self, request: ModelRequest) -> float:
        expires = request.queued_at_seconds + self.limits.queue_timeout_seconds
        deadline = request.arrival.deadline_at_seconds
        return expires if deadline is None else min(expires, deadline)

    def arrive(self, arrival: RequestArrived, now_seconds: float) -> None:
        number = len(self.over) + len(self.requests)
        self.requests[arrival.request_id] = ModelRequest(arrival, number, queued_at_seconds=now_seconds)

    def end(self, request_id: str) -> None:
        if self.requests.pop(request_id, None) is not None:
            self.over.append(request_id)

    def fail(self, request: ModelRequest, now_seconds: float) -> None:
        request.avoided |= {request.announcement}
        request.worker = None
        request.queued_at_seconds = now_seconds

    def ready(self, event: WorkerReady) -> None:
        self.announcements += 1
        if event.worker_id not in self.workers:
            self.generations[event.worker_id] = self.generations.get(event.worker_id, 0) + 1
        generation = self.generations[event.worker_id]
        self.workers[event.worker_id] = ModelWorker(
            event.models, event.max_running_requests, generation, self.announcements
        )
        self.announced |= event.models
        for model in event.models:
            self.may_serve.setdefault(model, set()).add(event.worker_id)
        for model in self.may_serve.keys() - event.models:
            self.may_serve[model].discard(event.worker_id)

    def lose(self, worker_id: str, *, may_return: bool) -> None:
        self.workers.pop(worker_id, None)
        if not may_return:
            for worker_ids in self.may_serve.values():
                worker_ids.discard(worker_id)

    def obey(self, commands: list[Command], now_seconds: float) -> None:
        """Check each command against the rules at the moment it was given, and carry it out."""
        for command in commands:
            assert isinstance(command, Dispatch | Reject)
            request = self.requests.get(command.request_id)
            assert request is not None, f"{command} is about a request that is over"
            assert request.worker is None, f"{command} is about a request that runs already"
            if isinstance(command, Dispatch):
                self._dispatch(request, command)
            else:
                self._reject(request, command, now_seconds)

    def _dispatch(self, request: ModelRequest, command: Dispatch) -> None:
        assert command.worker_id in self.candidates(request), f"{command}: the worker is not one it may have"
        for other in self.queued:
            if other.arrival.model == request.arrival.model and other.number < request.number:
                assert not self.candidates(other), f"{command} overtook {other.arrival.request_id}"
        assert (command.reason == "retry") == (request.dispatches > 0)
        worker = self.workers[command.worker_id]
        request.worker = (command.worker_id, worker.generation)
        request.announcement = worker.announcement
        request.dispatches += 1
        self.served.append(command.request_id)

    def _reject(self, request: ModelRequest, command: Reject, now_seconds: float) -> None:
        model, deadline = request.arrival.model, request.arrival.deadline_at_seconds
        waited_seconds = now_seconds - request.queued_at_seconds
        others_waiting = len(self.queued) - 1
        is_reason_true = {
            RejectCause.QUEUE_FULL: others_waiting >= self.limits.max_queued_requests and not request.dispatches,
            RejectCause.QUEUE_TIMEOUT: waited_seconds >= self.limits.queue_timeout_seconds,
            RejectCause.DEADLINE_PASSED: deadline is not None and deadline <= now_seconds,
            RejectCause.UNKNOWN_MODEL: model not in self.may_serve,
            RejectCause.NO_WORKER: model in self.announced and not self.may_serve.get(model),
            RejectCause.WORKERS_LOST: False,
            RejectCause.DRAINING: self.is_draining and not request.dispatches,
        }
        assert is_reason_true[command.cause], f"{command} is not true"
        assert command.retry_after_seconds is None or command.retry_after_seconds >= 1
        if command.cause is RejectCause.QUEUE_FULL:
            assert not self.candidates(request), f"{command}, though there was room"
        self.end(command.request_id)
