"""Puts requests on workers: asks the policy, keeps to the power cap, and books the place that was taken.

The only code that moves a request from waiting to running or gives its place back.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from scheduler.awake import Awake
from scheduler.commands import Dispatch
from scheduler.errors import PolicyError
from scheduler.fleet import Fleet
from scheduler.lane import POWER_CAP, Lane
from scheduler.limits import SchedulerLimits
from scheduler.placement import Hold, Placement, PlacementPolicy
from scheduler.request import Request
from scheduler.tiers import FLEX
from scheduler.waiting import WaitingList
from scheduler.worker import Worker

# What a worker draws is predicted to a few percent: its prompts come in bursts. Flex requests stop shorter of the cap,
# so that those which cannot wait find room under it.
_POWER_RATIO: Final = 0.97
_FLEX_POWER_RATIO: Final = 0.9


class Placer:
    """Works on what it is handed; `running_requests` counts the places taken, on workers that are lost too."""

    def __init__(self, policy: PlacementPolicy, limits: SchedulerLimits, fleet: Fleet, awake: Awake) -> None:
        self.waiting = WaitingList()
        self.running_requests = 0
        self._policy = policy
        self._power_cap_watts = limits.power_cap_watts
        self._fleet = fleet
        self._awake = awake

    def fill(self, lanes: Iterable[Lane], requests: Mapping[str, Request], now_seconds: float) -> list[Dispatch]:
        """Place what waits in `lanes`, in its order, until nothing there has room or the first is held."""
        dispatches: list[Dispatch] = []
        open_lanes = [lane for lane in lanes if not lane.is_empty]
        while open_lanes:
            offers = [(offer, lane) for lane in open_lanes if (offer := lane.next_offer()) is not None]
            if not offers:
                break
            (_, request_id), lane = min(offers, key=lambda pair: pair[0])
            request = requests[request_id]
            dispatch = self.place(request, lane, now_seconds)
            if dispatch is None:
                open_lanes.remove(lane)
                continue
            self.waiting.remove(request)
            lane.remove(request)
            dispatches.append(dispatch)
        return dispatches

    def place(self, request: Request, lane: Lane, now_seconds: float) -> Dispatch | None:
        """Put the request on one of the lane's workers with room, unless the policy or the power cap holds it.

        Raises:
            PolicyError: the policy chose a worker it was not offered.
        """
        placement = self._policy.choose(request, lane.pool, now_seconds)
        if isinstance(placement, Hold):
            lane.held_reason = placement.reason
            return None
        worker = self._chosen(placement, request, lane)
        if self._exceeds_power_cap(worker, request):
            lane.held_reason = POWER_CAP
            return None
        lane.held_reason = None
        reason = "retry" if request.was_dispatched else placement.reason
        request.advance(Dispatch)
        request.is_due = True  # one that joins what runs anyway is no demand: no worker need be awake for it
        request.prefill_seconds = worker.expect_prefill(request.prompt_tokens, now_seconds)
        request.prefilled_at_seconds = worker.prefilled_at_seconds
        request.place_on(worker)
        request.dispatched_at_seconds = now_seconds
        self._booked(worker, lane, 1, now_seconds)
        return Dispatch(request.arrival.request_id, worker.worker_id, reason)

    def leave(self, request: Request, lane: Lane, now_seconds: float) -> Worker:
        """Take the request off its worker, and return that."""
        worker = request.leave_worker()
        worker.skip_prefill(min(request.prefill_seconds, request.prefilled_at_seconds - now_seconds), now_seconds)
        self._booked(worker, lane, -1, now_seconds)
        return worker

    def now_due(self, request: Request, lane: Lane, now_seconds: float) -> None:
        """The request cannot wait any more, or need not: it counts as demand from now on."""
        request.is_due = True
        lane.demand.add(request.prompt_tokens, request.output_tokens, now_seconds)

    def lanes_with_room_after(self, worker: Worker) -> list[Lane]:
        """Where a place that was given back on `worker` may let somebody in: under a power cap, anywhere."""
        return list(self._fleet.lanes) if self._power_cap_watts is not None else self._fleet.lanes_of(worker)

    def _booked(self, worker: Worker, lane: Lane, places: int, now_seconds: float) -> None:
        self.running_requests += places
        lane.pool.running_requests += places
        self._fleet.refresh(worker)
        self._awake.refresh(worker, now_seconds)

    def _chosen(self, placement: Placement, request: Request, lane: Lane) -> Worker:
        worker = self._fleet.worker(placement.worker_id)
        if worker is None or worker not in lane.pool or not request.may_use(worker):
            offered = ", ".join(one.worker_id for one in lane.pool.emptiest() if request.may_use(one))
            message = f"the policy chose worker {placement.worker_id!r}, offered were: {offered}"
            raise PolicyError(message)
        return worker

    def _exceeds_power_cap(self, worker: Worker, request: Request) -> bool:
        """Whether one more request there would draw too much; something always runs, however low the cap."""
        cap_watts = self._power_cap_watts
        if cap_watts is None or self.running_requests == 0:
            return False
        model, running = worker.model, worker.running_requests
        predicted_watts = self._fleet.predicted_watts + model.watts(running + 1) - model.watts(running)
        # One that is due stands before others: to stop it earlier than them would be to stop them too.
        is_patient = request.arrival.tier == FLEX and not request.is_due
        return predicted_watts > cap_watts * (_FLEX_POWER_RATIO if is_patient else _POWER_RATIO)
