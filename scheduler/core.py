"""Which request runs where and when, and which workers are awake: a plain function of state, event and time.

No I/O, no clock, no randomness, no logging: the asyncio driver and the simulator feed the same object, and the same
events at the same instants give the same commands. Time is seconds on whatever monotonic clock the caller uses, and
must not go backwards.
"""

from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import Final, assert_never

from scheduler import rejections
from scheduler.awake import Awake
from scheduler.commands import Command, Dispatch, Notice, Reject
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
from scheduler.lane import POWER_CAP, Lane
from scheduler.lengths import Lengths
from scheduler.lifecycle import RequestState, StaleDispatchFailed, next_state
from scheduler.limits import SchedulerLimits
from scheduler.notices import Notices
from scheduler.placement import PlacementPolicy
from scheduler.placer import Placer
from scheduler.request import Request
from scheduler.snapshot import SchedulerSnapshot, lane_snapshot, worker_snapshot
from scheduler.targets import LatencyTargets
from scheduler.tiers import FLEX
from scheduler.worker_model import WorkerModel

_ALONE_RATIO: Final = 0.1


class Scheduler:
    """One queue for each model, by tier and deadline; placement by policy; bounded waiting; workers parked and started.

    After every call: no worker has more requests than places, and a request waits only while no worker that it may
    use has room, while the policy holds it, or while the power cap does. A request for a model whose workers are busy
    or away does not stand in the way of requests for other models.
    """

    def __init__(
        self,
        policy: PlacementPolicy,
        limits: SchedulerLimits,
        models: frozenset[str],
        targets: LatencyTargets | None = None,
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._targets = targets or LatencyTargets()
        self._fleet = Fleet(models, limits.max_queued_requests)
        self._lengths = Lengths()
        self._awake = Awake(self._fleet, limits, self._targets, is_enabled=policy.parks_workers)
        self._requests: dict[str, Request] = {}
        self._placer = Placer(policy, limits, self._fleet, self._awake)
        self._waiting = self._placer.waiting
        self._notices = Notices(self._targets)
        self._arrivals = 0
        self._is_draining = False
        self._now_seconds = 0.0

    @property
    def queued_requests(self) -> int:
        return len(self._waiting)

    @property
    def live_requests(self) -> int:
        """Queued or running."""
        return len(self._requests)

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def state_of(self, request_id: str) -> RequestState:
        request = self._requests.get(request_id)
        return RequestState.ABSENT if request is None else request.state

    def handle(self, event: Event, now_seconds: float) -> list[Command]:
        """Take in one event; what is to be done about it, in the order to do it.

        Raises:
            ProtocolError: the event cannot follow the request's state; nothing changed.
            PolicyError: the policy chose a worker it was not offered.
        """
        self._now_seconds = now_seconds
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
                self._awake.drain()
                return self._release_held(now_seconds)
            case _:
                assert_never(event)

    def next_wakeup(self) -> float | None:
        """The instant at which `wake` is next due, or None while nothing waits for time to pass."""
        instants = [at for at in (self._waiting.next_wakeup(), self._awake.next_wakeup()) if at is not None]
        return min(instants, default=None)

    def wake(self, now_seconds: float) -> list[Command]:
        """Refuse what has waited long enough, offer the rest again, park what idles. Needless calls are harmless."""
        self._now_seconds = now_seconds
        commands: list[Command] = []
        while (request_id := self._waiting.take_expired(now_seconds)) is not None:
            commands.append(self._expire(self._requests[request_id], now_seconds))
        due_lanes: dict[Lane, None] = {}
        while (request_id := self._waiting.take_due(now_seconds)) is not None:
            due_lanes[self._now_due(self._requests[request_id], now_seconds)] = None
        commands += self._fill(self._fleet.lanes, now_seconds)
        for lane in due_lanes:
            commands += self._start_for(lane, None, now_seconds)
        if self._awake.take_overdue(now_seconds):
            commands += self._awake.start_needed(self._fleet.lanes, now_seconds)
        return commands + list(self._awake.park_idle(now_seconds))

    def snapshot(self) -> SchedulerSnapshot:
        """What is queued and running, and what is known of the workers; O(models × workers)."""
        queued: Counter[str] = Counter()
        for lane in self._fleet.lanes:
            queued.update(lane.queued_by_tier)
        return SchedulerSnapshot(
            queued_requests_by_tier={tier: count for tier, count in queued.items() if count},
            queued_requests=len(self._waiting),
            running_requests=self._placer.running_requests,
            workers=tuple(worker_snapshot(one, self._targets, self._now_seconds) for one in self._fleet.records),
            lanes=tuple(lane_snapshot(lane, self._awake, self._now_seconds) for lane in self._fleet.lanes),
            predicted_watts=self._fleet.predicted_watts,
            power_cap_watts=self._limits.power_cap_watts,
            is_draining=self._is_draining,
        )

    def worker_models(self) -> dict[str, WorkerModel]:
        """What is learned of each worker, by its id: to be read, not changed."""
        return {record.worker_id: record.model for record in self._fleet.records}

    # -- requests ------------------------------------------------------------------------------------------------

    def _arrived(self, arrival: RequestArrived, now_seconds: float) -> list[Command]:
        live = self._requests.get(arrival.request_id)
        lane = self._fleet.lane(arrival.model)
        request = self._new_request(arrival, lane, now_seconds) if live is None else live
        request.advance(RequestArrived)  # raises for an id that is still in use
        if self._is_draining:
            return [rejections.draining(arrival)]
        if lane is None:
            return [rejections.unknown_model(arrival, self._fleet.models)]
        refusal = self._hopeless(arrival, lane, now_seconds) or self._while_lost(request, lane, now_seconds)
        if refusal is not None:
            return [refusal]
        self._arrivals += 1
        if request.is_due:
            self._placer.now_due(request, lane, now_seconds)
        else:
            lane.demand.add_patient(request.prompt_tokens, request.output_tokens, now_seconds)
        dispatch = self._placer.place(request, lane, now_seconds) if lane.is_empty and len(lane.pool) else None
        self._requests[arrival.request_id] = request
        commands: list[Command] = (
            [dispatch] if dispatch is not None else self._queue_arrival(request, lane, now_seconds)
        )
        is_turned_away = request.state is RequestState.ABSENT
        return commands + self._start_for(lane, dispatch, now_seconds, is_turned_away=is_turned_away)

    def _new_request(self, arrival: RequestArrived, lane: Lane | None, now_seconds: float) -> Request:
        prompt_tokens = arrival.prompt_tokens
        if prompt_tokens is None:
            prompt_tokens = self._lengths.prompt_tokens(arrival.model, arrival.prompt_bytes)
        # Where a worker is awake and nothing runs, there is no batch to join: the wait for others is cut short.
        is_alone = lane is not None and bool(lane.workers) and lane.pool.running_requests == 0
        due_at_seconds = now_seconds + self._limits.flex_wait_seconds * (_ALONE_RATIO if is_alone else 1.0)
        order_at_seconds = now_seconds + self._limits.queue_timeout_seconds
        if arrival.deadline_at_seconds is not None:
            order_at_seconds = min(order_at_seconds, arrival.deadline_at_seconds)
        # Early enough to be placed like any other, and for a worker to be started where none may be awake.
        start_seconds = 0.0
        if lane is not None and self._awake.may_sleep(lane):
            start_seconds = self._fleet.start_seconds(lane)
        due_at_seconds = min(due_at_seconds, order_at_seconds - 2 * self._targets.ttft_seconds - start_seconds)
        return Request(
            arrival=arrival,
            arrival_number=self._arrivals,
            arrived_at_seconds=now_seconds,
            order_at_seconds=order_at_seconds,
            due_at_seconds=due_at_seconds,
            prompt_tokens=prompt_tokens,
            output_tokens=self._lengths.output_tokens(arrival.model, arrival.tenant, arrival.max_output_tokens),
            is_due=arrival.tier != FLEX or due_at_seconds <= now_seconds,
            is_holdable=self._policy.parks_workers,
        )

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
        lane = self._lane_of(request)
        if request.state is RequestState.QUEUED:
            self._drop_queued(request, type(event))
            # It may have been the one that the policy held.
            return self._fill([lane], now_seconds)
        request.advance(type(event))
        del self._requests[event.request_id]
        if isinstance(event, RequestFinished):
            asked = request.arrival
            self._lengths.ended(asked.model, asked.tenant, asked.prompt_bytes, event.prompt_tokens, event.output_tokens)
            self._learn_attainment(request, lane, event, now_seconds)
        worker = self._placer.leave(request, lane, now_seconds)
        if not len(self._waiting):
            return []
        self._waiting.pace.departed(now_seconds)
        return self._fill(self._placer.lanes_with_room_after(worker), now_seconds)

    def _learn_attainment(self, request: Request, lane: Lane, event: RequestFinished, now_seconds: float) -> None:
        """See whether the targets were met; those of a request that can wait are not promised."""
        if request.arrival.tier == FLEX or (event.ttft_seconds is None and event.tpot_seconds is None):
            return
        is_soon = event.ttft_seconds is None or event.ttft_seconds <= self._targets.ttft_seconds
        is_steady = event.tpot_seconds is None or event.tpot_seconds <= self._targets.tpot_seconds
        lane.pool.margin.observe(request.dispatched_at_seconds, now_seconds, is_met=is_soon and is_steady)

    def _dispatch_failed(self, event: DispatchFailed, now_seconds: float) -> list[Command]:
        request = self._requests.get(event.request_id)
        if request is None or request.worker is None or request.worker.worker_id != event.worker_id:
            next_state(self.state_of(event.request_id), StaleDispatchFailed, event.request_id)
            return []
        request.advance(DispatchFailed)
        lane = self._lane_of(request)
        worker = self._placer.leave(request, lane, now_seconds)
        if self._fleet.worker(worker.worker_id) is worker and worker.ready_number == request.ready_number:
            request.avoid_last_worker()  # one that has gone need not be avoided: it comes back under another number
        self._enqueue(request, lane, now_seconds)
        commands: list[Command] = []
        if (refusal := self._hopeless(request.arrival, lane, now_seconds)) is not None:
            self._drop_queued(request, Reject)
            commands.append(refusal)
        # The worker may have stopped serving this model since: its lanes, and the request's own.
        lanes = dict.fromkeys([lane, *self._placer.lanes_with_room_after(worker)])
        return commands + self._fill(lanes, now_seconds) + self._start_for(lane, None, now_seconds)

    # -- workers -------------------------------------------------------------------------------------------------

    def _worker_changed(self, event: WorkerEvent, now_seconds: float) -> list[Command]:
        match event:
            case WorkerReady():
                worker = self._fleet.ready(event, now_seconds)
                commands = self._refuse_abandoned() + self._fill(self._fleet.lanes_of(worker), now_seconds)
                self._awake.refresh(worker, now_seconds)
                return commands + list(self._notices.of(worker))
            case WorkerLost(worker_id):
                self._fleet.lost(event, now_seconds)
            case WorkerParked(worker_id):
                self._fleet.parked(worker_id)
            case WorkerReported():
                return self._reported(event, now_seconds)
            case _:
                assert_never(event)
        self._awake.forget(worker_id)
        return self._refuse_abandoned() + list(self._awake.start_needed(self._fleet.lanes, now_seconds))

    def _reported(self, event: WorkerReported, now_seconds: float) -> list[Command]:
        self._fleet.reported(event, now_seconds)
        worker = self._fleet.worker(event.worker_id)
        if worker is None:
            return []
        self._awake.learned(worker, now_seconds)
        # What was learned may make room for those that are held.
        commands = self._fill([lane for lane in self._fleet.lanes_of(worker) if lane.held_reason], now_seconds)
        notices: list[Notice] = self._notices.of(worker)
        return [*commands, *notices, *self._awake.start_needed(self._fleet.lanes_of(worker), now_seconds)]

    def _start_for(
        self, lane: Lane, dispatch: Dispatch | None, now_seconds: float, *, is_turned_away: bool = False
    ) -> list[Command]:
        """Start workers for what has come, where it shows that those awake are not enough."""
        if lane.held_reason == POWER_CAP and not lane.is_empty and len(lane.pool):
            return list(self._awake.park_for_power(lane, now_seconds))
        at_risk = None
        if dispatch is not None and dispatch.reason == "best_effort":
            at_risk = "a request was placed where the targets are at risk"
        elif dispatch is None and lane.has_urgent:
            at_risk = f"{lane.pool.waiting_requests} requests wait for a place"
        elif dispatch is None and is_turned_away and not lane.workers:
            at_risk = "a request found no place to wait in and no worker is awake"
        return list(self._awake.start_needed([lane], now_seconds, at_risk=at_risk))

    # -- waiting -------------------------------------------------------------------------------------------------

    def _fill(self, lanes: Iterable[Lane], now_seconds: float) -> list[Command]:
        return list(self._placer.fill(lanes, self._requests, now_seconds))

    def _hopeless(self, arrival: RequestArrived, lane: Lane, now_seconds: float) -> Reject | None:
        """The refusal of a request that waiting cannot help, or None."""
        if lane.is_abandoned:
            return rejections.no_worker(arrival)
        deadline_at_seconds = arrival.deadline_at_seconds
        if deadline_at_seconds is not None and deadline_at_seconds <= now_seconds:
            return rejections.deadline_passed(arrival, now_seconds - deadline_at_seconds)
        return None

    def _while_lost(self, request: Request, lane: Lane, now_seconds: float) -> Reject | None:
        """The refusal of a request that would wait in vain for a worker to return, or None."""
        returns_at_seconds = self._fleet.returns_at_seconds(lane)
        if returns_at_seconds <= request.order_at_seconds:
            return None
        return rejections.workers_lost(request.arrival, returns_at_seconds - now_seconds)

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

    def _now_due(self, request: Request, now_seconds: float) -> Lane:
        lane = self._lane_of(request)
        self._placer.now_due(request, lane, now_seconds)
        lane.reorder(request)
        return lane

    def _release_held(self, now_seconds: float) -> list[Command]:
        """Nothing is held back any more; nobody comes whom it would make room for."""
        while (request_id := self._waiting.take_due(inf)) is not None:
            self._now_due(self._requests[request_id], now_seconds)
        commands = self._fill(self._fleet.lanes, now_seconds)
        return commands + list(self._awake.start_needed(self._fleet.lanes, now_seconds))

    def _enqueue(self, request: Request, lane: Lane, now_seconds: float) -> None:
        request.queued_at_seconds = now_seconds
        expires_at_seconds = now_seconds + self._limits.queue_timeout_seconds
        if request.arrival.deadline_at_seconds is not None:
            expires_at_seconds = min(expires_at_seconds, request.arrival.deadline_at_seconds)
        self._waiting.add(request, expires_at_seconds)
        lane.add(request)

    def _drop_queued(self, request: Request, happened: type) -> None:
        request.advance(happened)
        self._waiting.remove(request)
        self._lane_of(request).remove(request)
        del self._requests[request.arrival.request_id]

    def _lane_of(self, request: Request) -> Lane:
        lane = self._fleet.lane(request.arrival.model)
        if lane is None:
            message = f"no lane for {request.arrival.model!r}, though request {request.arrival.request_id} waits"
            raise LookupError(message)
        return lane

    def _retry_after_seconds(self) -> int:
        return self._waiting.pace.retry_after_seconds(self.queued_requests, self._limits.queue_timeout_seconds)
