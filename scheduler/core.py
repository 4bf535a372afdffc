"""Which request runs where and when: a plain function of state, event and time.

No I/O, no clock, no randomness, no logging: the asyncio driver and the simulator feed the same object, and the same
events at the same instants give the same commands. Time is seconds on whatever monotonic clock the caller uses, and
must not go backwards.
"""

from collections import Counter
from collections.abc import Iterable
from typing import assert_never

from scheduler import rejections
from scheduler.commands import Command, Dispatch, Reject
from scheduler.departure_pace import DeparturePace
from scheduler.errors import PolicyError
from scheduler.events import (
    DispatchFailed,
    DrainStarted,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    WorkerEvent,
    WorkerLost,
    WorkerParked,
    WorkerReady,
    WorkerReported,
)
from scheduler.fleet import Fleet
from scheduler.lane import Lane
from scheduler.lifecycle import RequestState, StaleDispatchFailed, next_state
from scheduler.limits import SchedulerLimits
from scheduler.ordered_ids import OrderedIds
from scheduler.policy import PlacementPolicy
from scheduler.request import Request
from scheduler.snapshot import SchedulerSnapshot, WorkerSnapshot
from scheduler.worker import Worker


class Scheduler:
    """One queue in arrival order, placement by policy, bounded waiting.

    After every call: no worker has more requests than places, and a request waits only while no worker that it may
    use has room, or while the policy holds it. A request for a model whose workers are busy or away does not stand in
    the way of requests for other models.
    """

    def __init__(self, policy: PlacementPolicy, limits: SchedulerLimits, models: frozenset[str]) -> None:
        self._policy = policy
        self._limits = limits
        self._fleet = Fleet(models)
        self._requests: dict[str, Request] = {}
        # Holds every queued request, so its length is the queue's.
        self._expiries: OrderedIds[tuple[float, int]] = OrderedIds()
        self._arrivals = 0
        self._pace = DeparturePace()
        self._is_draining = False

    @property
    def queued_requests(self) -> int:
        return len(self._expiries)

    @property
    def live_requests(self) -> int:
        """Queued or running."""
        return len(self._requests)

    def state_of(self, request_id: str) -> RequestState:
        request = self._requests.get(request_id)
        return RequestState.ABSENT if request is None else request.state

    def handle(self, event: Event, now_seconds: float) -> list[Command]:
        """Take in one event; what is to be done about it, in the order to do it.

        Raises:
            ProtocolError: the event cannot follow the request's state; nothing changed.
            PolicyError: the policy chose a worker it was not offered.
        """
        match event:
            case RequestArrived():
                return self._arrived(event, now_seconds)
            case RequestFinished() | RequestCancelled():
                return self._ended(event, now_seconds)
            case DispatchFailed():
                return self._dispatch_failed(event, now_seconds)
            case WorkerReady() | WorkerReported() | WorkerParked() | WorkerLost():
                return self._worker_changed(event, now_seconds)
            case DrainStarted():
                self._is_draining = True
                return []
            case _:
                assert_never(event)

    def next_wakeup(self) -> float | None:
        """The instant at which `wake` is next due, or None while nothing waits for time to pass."""
        first = self._expiries.first()
        return None if first is None else first[0][0]

    def wake(self, now_seconds: float) -> list[Command]:
        """Refuse what has waited long enough and offer the rest again; early or needless calls do no harm."""
        commands: list[Command] = []
        while (first := self._expiries.first()) is not None and first[0][0] <= now_seconds:
            commands.append(self._expire(self._requests[first[1]], now_seconds))
        return commands + self._fill(self._fleet.lanes, now_seconds)

    def snapshot(self) -> SchedulerSnapshot:
        """What is queued and running now; O(queued requests + workers)."""
        queued = [request for request in self._requests.values() if request.state is RequestState.QUEUED]
        return SchedulerSnapshot(
            queued_requests_by_tier=dict(Counter(request.arrival.tier for request in queued)),
            queued_requests=len(queued),
            running_requests=len(self._requests) - len(queued),
            workers=tuple(WorkerSnapshot.of(worker) for worker in self._fleet.workers),
            is_draining=self._is_draining,
        )

    def _arrived(self, arrival: RequestArrived, now_seconds: float) -> list[Command]:
        live = self._requests.get(arrival.request_id)
        request = Request(arrival, self._arrivals) if live is None else live
        request.advance(RequestArrived)  # raises for an id that is still in use
        lane = self._fleet.lane(arrival.model)
        if self._is_draining:
            return [rejections.draining(arrival)]
        if lane is None:
            return [rejections.unknown_model(arrival, self._fleet.models)]
        if (refusal := self._hopeless(arrival, lane, now_seconds)) is not None:
            return [refusal]
        self._arrivals += 1
        dispatch = self._place(request, lane.workers_with_room(), now_seconds) if lane.is_empty else None
        self._requests[arrival.request_id] = request
        return [dispatch] if dispatch is not None else self._queue_arrival(request, lane, now_seconds)

    def _queue_arrival(self, request: Request, lane: Lane, now_seconds: float) -> list[Command]:
        was_behind_others = not lane.is_empty
        self._enqueue(request, lane, now_seconds)
        commands = self._fill([lane], now_seconds) if was_behind_others else []
        if request.state is RequestState.QUEUED and self.queued_requests > self._limits.max_queued_requests:
            self._drop_queued(request, Reject)
            waiting, limit = self.queued_requests, self._limits.max_queued_requests
            commands.append(rejections.queue_full(request.arrival, waiting, limit, self._retry_after_seconds()))
        return commands

    def _ended(self, event: RequestFinished | RequestCancelled, now_seconds: float) -> list[Command]:
        request = self._requests.get(event.request_id)
        if request is None:
            next_state(RequestState.ABSENT, type(event), event.request_id)
            return []
        if request.state is RequestState.QUEUED:
            self._drop_queued(request, type(event))
            # It may have been the one that the policy held.
            return self._fill([self._lane_of(request)], now_seconds)
        request.advance(type(event))
        del self._requests[event.request_id]
        worker = request.leave_worker()
        if not self._expiries:
            return []
        self._pace.departed(now_seconds)
        return self._fill(self._fleet.lanes_of(worker), now_seconds)

    def _dispatch_failed(self, event: DispatchFailed, now_seconds: float) -> list[Command]:
        request = self._requests.get(event.request_id)
        if request is None or request.worker is None or request.worker.worker_id != event.worker_id:
            next_state(self.state_of(event.request_id), StaleDispatchFailed, event.request_id)
            return []
        request.advance(DispatchFailed)
        worker = request.leave_worker()
        request.avoid_last_worker()
        lane = self._lane_of(request)
        self._enqueue(request, lane, now_seconds)
        commands: list[Command] = []
        if (refusal := self._hopeless(request.arrival, lane, now_seconds)) is not None:
            self._drop_queued(request, Reject)
            commands.append(refusal)
        # The worker may have stopped serving this model since: its lanes, and the request's own.
        lanes = dict.fromkeys([lane, *self._fleet.lanes_of(worker)])
        return commands + self._fill(lanes, now_seconds)

    def _worker_changed(self, event: WorkerEvent, now_seconds: float) -> list[Command]:
        match event:
            case WorkerReady():
                worker = self._fleet.ready(event)
                return self._refuse_abandoned() + self._fill(self._fleet.lanes_of(worker), now_seconds)
            case WorkerLost():
                self._fleet.lost(event)
                return self._refuse_abandoned()
            case WorkerParked(worker_id):
                self._fleet.lost(WorkerLost(worker_id, "parked"))
                return []
            case WorkerReported():
                self._fleet.reported(event)
                return []
            case _:
                assert_never(event)

    def _fill(self, lanes: Iterable[Lane], now_seconds: float) -> list[Command]:
        """Place what waits in `lanes`, oldest first, until nothing there has room or the policy holds it."""
        commands: list[Command] = []
        open_lanes = [lane for lane in lanes if not lane.is_empty]
        while open_lanes:
            offers = [(offer, lane) for lane in open_lanes if (offer := lane.next_offer()) is not None]
            if not offers:
                break
            offer, lane = min(offers, key=lambda pair: pair[0].arrival_number)
            request = self._requests[offer.request_id]
            dispatch = self._place(request, offer.candidates, now_seconds)
            if dispatch is None:
                open_lanes.remove(lane)
                continue
            self._expiries.discard(offer.request_id)
            lane.remove(request)
            commands.append(dispatch)
        return commands

    def _place(self, request: Request, candidates: list[Worker], now_seconds: float) -> Dispatch | None:
        """Put the request on one of `candidates`, unless there is none or the policy holds it."""
        if not candidates:
            return None
        placement = self._policy.choose(request.arrival, candidates, now_seconds)
        if placement is None:
            return None
        worker = self._fleet.worker(placement.worker_id)
        if worker is None or worker not in candidates:
            offered = ", ".join(candidate.worker_id for candidate in candidates)
            message = f"the policy chose worker {placement.worker_id!r}, offered were: {offered}"
            raise PolicyError(message)
        reason = "retry" if request.was_dispatched else placement.reason
        request.advance(Dispatch)
        request.place_on(worker)
        return Dispatch(request.arrival.request_id, worker.worker_id, reason)

    def _hopeless(self, arrival: RequestArrived, lane: Lane, now_seconds: float) -> Reject | None:
        """The refusal of a request that waiting cannot help, or None."""
        if lane.is_abandoned:
            return rejections.no_worker(arrival)
        deadline_at_seconds = arrival.deadline_at_seconds
        if deadline_at_seconds is not None and deadline_at_seconds <= now_seconds:
            return rejections.deadline_passed(arrival, now_seconds - deadline_at_seconds)
        return None

    def _refuse_abandoned(self) -> list[Command]:
        commands: list[Command] = []
        for lane in self._fleet.lanes:
            if lane.is_abandoned and not lane.is_empty:
                for request_id in lane.waiting_request_ids():
                    request = self._requests[request_id]
                    self._drop_queued(request, Reject)
                    commands.append(rejections.no_worker(request.arrival))
        return commands

    def _expire(self, request: Request, now_seconds: float) -> Reject:
        self._drop_queued(request, Reject)
        if (refusal := self._hopeless(request.arrival, self._lane_of(request), now_seconds)) is not None:
            return refusal
        waited_seconds = now_seconds - request.queued_at_seconds
        timeout_seconds = self._limits.queue_timeout_seconds
        return rejections.queue_timeout(request.arrival, waited_seconds, timeout_seconds, self._retry_after_seconds())

    def _enqueue(self, request: Request, lane: Lane, now_seconds: float) -> None:
        if not self._expiries:
            self._pace.queue_formed()
        request.queued_at_seconds = now_seconds
        expires_at_seconds = now_seconds + self._limits.queue_timeout_seconds
        if request.arrival.deadline_at_seconds is not None:
            expires_at_seconds = min(expires_at_seconds, request.arrival.deadline_at_seconds)
        self._expiries.push((expires_at_seconds, request.arrival_number), request.arrival.request_id)
        lane.add(request)

    def _drop_queued(self, request: Request, happened: type) -> None:
        request.advance(happened)
        self._expiries.discard(request.arrival.request_id)
        self._lane_of(request).remove(request)
        del self._requests[request.arrival.request_id]

    def _lane_of(self, request: Request) -> Lane:
        lane = self._fleet.lane(request.arrival.model)
        if lane is None:
            message = f"no lane for {request.arrival.model!r}, though request {request.arrival.request_id} waits"
            raise LookupError(message)
        return lane

    def _retry_after_seconds(self) -> int:
        return self._pace.retry_after_seconds(self.queued_requests, self._limits.queue_timeout_seconds)
