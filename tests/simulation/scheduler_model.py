"""What the scheduler must have done, kept the slow and obvious way: the reference for the simulation.

It never predicts a choice; it checks each command against the rules, then takes it as given.
"""

from dataclasses import dataclass

from scheduler.commands import Command, Dispatch, Notice, Park, Reject, RejectCause, Start
from scheduler.events import RequestArrived, WorkerReady
from scheduler.hardware import hardware_class
from scheduler.limits import SchedulerLimits
from scheduler.targets import LatencyTargets


@dataclass
class ModelWorker:
    models: frozenset[str]
    places: int
    generation: int
    announcement: int
    can_park: bool = False
    is_leaving: bool = False


@dataclass
class ModelRequest:
    arrival: RequestArrived
    number: int
    arrived_at_seconds: float
    due_at_seconds: float
    """Until then it may be held back though there is room; what may not wait is due when it arrives."""
    worker: tuple[str, int] | None = None
    """Worker id and generation while it runs."""
    announcement: int = -1
    avoided: frozenset[int] = frozenset()
    queued_at_seconds: float = 0.0
    dispatches: int = 0


class SchedulerModel:
    def __init__(self, limits: SchedulerLimits, models: frozenset[str], targets: LatencyTargets, policy: str) -> None:
        self.limits = limits
        self.targets = targets
        self.may_hold = policy == "energy"
        self.parked: set[str] = set()
        self.starting: set[str] = set()
        self.returns_at_seconds: dict[str, float] = {}
        self.parks = self.starts = 0
        self.workers: dict[str, ModelWorker] = {}
        self.requests: dict[str, ModelRequest] = {}
        self.served: list[str] = []
        self.over: list[str] = []
        self.may_serve: dict[str, set[str]] = {model: set() for model in models}
        self.announced: set[str] = set()
        self.generations: dict[str, int] = {}
        self.hardware: dict[str, str] = {}
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
            and not worker.is_leaving
            and self.load(worker_id) < worker.places
        ]

    def expires_at_seconds(self, request: ModelRequest) -> float:
        expires = request.queued_at_seconds + self.limits.queue_timeout_seconds
        deadline = request.arrival.deadline_at_seconds
        return expires if deadline is None else min(expires, deadline)

    def order(self, request: ModelRequest, now_seconds: float) -> tuple[int, float, int]:
        """Tier, then deadline, then arrival; a flex request that is due is served as a default one."""
        rank = {"priority": 0, "default": 1, "flex": 2}[request.arrival.tier]
        if rank == 2 and (request.due_at_seconds <= now_seconds or request.dispatches):
            rank = 1
        patience_ends = request.arrived_at_seconds + self.limits.queue_timeout_seconds
        deadline = request.arrival.deadline_at_seconds
        return rank, patience_ends if deadline is None else min(patience_ends, deadline), request.number

    def is_held(self, request: ModelRequest, now_seconds: float) -> bool:
        """Whether the policy may let it wait though there is room."""
        is_due = request.due_at_seconds <= now_seconds or request.dispatches or self.is_draining
        return self.may_hold and not is_due

    def arrive(self, arrival: RequestArrived, now_seconds: float) -> None:
        number = len(self.over) + len(self.requests)
        due = now_seconds
        if arrival.tier == "flex":
            is_awake = any(arrival.model in worker.models for worker in self.workers.values())
            is_alone = is_awake and not any(one.arrival.model == arrival.model for one in self.running)
            due += self.limits.flex_wait_seconds * (0.1 if is_alone else 1.0)
            ends = now_seconds + self.limits.queue_timeout_seconds
            if arrival.deadline_at_seconds is not None:
                ends = min(ends, arrival.deadline_at_seconds)
            start_seconds = self.start_seconds(arrival.model) if not is_awake or self.limits.min_workers == 0 else 0.0
            due = min(due, ends - 2 * self.targets.ttft_seconds - start_seconds)
        self.requests[arrival.request_id] = ModelRequest(
            arrival, number, now_seconds, due, queued_at_seconds=now_seconds
        )

    def start_seconds(self, model: str) -> float:
        """What it takes at least until one of its workers is awake, where those may all be parked."""
        if not self.may_hold:
            return 0.0
        known = [hardware_class(self.hardware[worker_id]) for worker_id in self.may_serve.get(model, ())]
        return min((one.start_seconds for one in known), default=0.0)

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
            self.hardware[event.worker_id] = event.hardware
        generation = self.generations[event.worker_id]
        old = self.workers.get(event.worker_id)
        self.workers[event.worker_id] = ModelWorker(
            event.models,
            event.max_running_requests,
            generation,
            self.announcements,
            event.can_park,
            is_leaving=old is not None and old.is_leaving,
        )
        self.parked.discard(event.worker_id)
        self.starting.discard(event.worker_id)
        self.returns_at_seconds.pop(event.worker_id, None)
        self.announced |= event.models
        for model in event.models:
            self.may_serve.setdefault(model, set()).add(event.worker_id)
        for model in self.may_serve.keys() - event.models:
            self.may_serve[model].discard(event.worker_id)

    def park(self, worker_id: str) -> None:
        del self.workers[worker_id]
        self.parked.add(worker_id)

    def lose(self, worker_id: str, returns_at_seconds: float, *, may_return: bool) -> None:
        self.workers.pop(worker_id, None)
        self.parked.discard(worker_id)
        self.starting.discard(worker_id)
        self.returns_at_seconds[worker_id] = returns_at_seconds
        if not may_return:
            for worker_ids in self.may_serve.values():
                worker_ids.discard(worker_id)

    def obey(self, commands: list[Command], now_seconds: float) -> None:
        """Check each command against the rules at the moment it was given, and carry it out."""
        for command in commands:
            if isinstance(command, Notice):
                continue
            if isinstance(command, Park | Start):
                self._change_worker(command)
                continue
            request = self.requests.get(command.request_id)
            assert request is not None, f"{command} is about a request that is over"
            assert request.worker is None, f"{command} is about a request that runs already"
            if isinstance(command, Dispatch):
                self._dispatch(request, command, now_seconds)
            else:
                self._reject(request, command, now_seconds)

    def _change_worker(self, command: Park | Start) -> None:
        assert self.may_hold, f"{command}, though the policy uses all workers"
        if isinstance(command, Start):
            assert command.worker_id in self.parked, f"{command}: the worker is not parked"
            self.parked.discard(command.worker_id)
            self.starting.add(command.worker_id)
            self.starts += 1
            return
        assert not self.is_draining
        worker = self.workers[command.worker_id]
        assert worker.can_park, f"{command}: nobody can park it"
        assert not worker.is_leaving, f"{command}: it is leaving already"
        assert self.load(command.worker_id) == 0, f"{command}: it is at work"
        worker.is_leaving = True
        self.parks += 1
        for model in worker.models:
            awake = [one for one in self.workers.values() if model in one.models and not one.is_leaving]
            assert len(awake) >= self.limits.min_workers, f"{command} leaves too few for {model}"

    def _dispatch(self, request: ModelRequest, command: Dispatch, now_seconds: float) -> None:
        assert command.worker_id in self.candidates(request), f"{command}: the worker is not one it may have"
        for other in self.queued:
            is_before = self.order(other, now_seconds) < self.order(request, now_seconds)
            if other.arrival.model == request.arrival.model and is_before:
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
            RejectCause.WORKERS_LOST: model in self.announced and self._is_lost(request),
            RejectCause.DRAINING: self.is_draining and not request.dispatches,
        }
        assert is_reason_true[command.cause], f"{command} is not true"
        assert command.retry_after_seconds is None or command.retry_after_seconds >= 1
        is_starved = deadline is not None and request.queued_at_seconds < deadline <= now_seconds
        if command.cause in {RejectCause.QUEUE_FULL, RejectCause.QUEUE_TIMEOUT} or is_starved:
            has_room = self.candidates(request) and not self.is_held(request, now_seconds)
            assert not has_room, f"{command}, though there was room"
        self.end(command.request_id)

    def _is_lost(self, request: ModelRequest) -> bool:
        """Whether every worker that may serve it is lost for longer than it would wait."""
        patience_ends = self.order(request, request.arrived_at_seconds)[1]
        return all(
            self.returns_at_seconds.get(one, 0.0) > patience_ends for one in self.may_serve[request.arrival.model]
        )
