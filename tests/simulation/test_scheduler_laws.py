"""The scheduler's laws under random histories, checked against an obvious model after every step."""

from collections import Counter
from math import inf, nan
from typing import TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scheduler.commands import Command
from scheduler.core import Scheduler
from scheduler.events import (
    DispatchFailed,
    DrainStarted,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    WorkerLost,
    WorkerParked,
    WorkerReady,
    WorkerReported,
    WorkReport,
)
from scheduler.lifecycle import RequestState
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets
from tests.simulation.scheduler_model import ModelRequest, SchedulerModel

CONFIGURED_MODELS = frozenset({"a", "b"})
WORKER_IDS = st.sampled_from(["w0", "w1", "w2"])
# Any position picks one of however many there are, so that one draw fits every state.
PICKS = st.integers(0, 1 << 16)

# What engines tell is believed only where it makes sense; none of it may lose a request.
WORK = st.builds(
    WorkReport,
    steps=st.integers(-1, 50),
    step_seconds=st.sampled_from([nan, -1.0, 0.0, 0.5, 2.0, 1e9]),
    decode_tokens=st.integers(0, 500),
    prefill_tokens=st.integers(0, 500),
    energy_joules=st.sampled_from([None, nan, 0.0, 10.0, 1e12]),
    loading_joules=st.sampled_from([None, 0.0, 5.0]),
    kv_cache_usage_ratio=st.sampled_from([None, 0.5, 0.95, 7.0]),
)

Step: TypeAlias = tuple[Event | None, float]
"""None stands for a call of `wake`."""


class SchedulerMachine(RuleBasedStateMachine):
    """Subclassed once per policy."""

    policy_name = ""

    @initialize(
        max_queued_requests=st.integers(0, 5),
        queue_timeout_seconds=st.sampled_from([1.0, 7.5, 600.0]),
        flex_wait_seconds=st.sampled_from([0.0, 5.0, 400.0]),
        min_workers=st.integers(0, 2),
        tpot_seconds=st.sampled_from([1e-4, 0.05, 1.0]),
    )
    def start(
        self,
        max_queued_requests: int,
        queue_timeout_seconds: float,
        flex_wait_seconds: float,
        min_workers: int,
        tpot_seconds: float,
    ) -> None:
        self.limits = SchedulerLimits(max_queued_requests, queue_timeout_seconds, flex_wait_seconds, min_workers)
        self.targets = LatencyTargets(0.5, tpot_seconds)
        self.core = self.new_core()
        self.model = SchedulerModel(self.limits, CONFIGURED_MODELS, self.targets, self.policy_name)
        self.now_seconds = 0.0
        self.arrivals = 0
        self.history: list[tuple[Step, list[Command]]] = []

    def new_core(self) -> Scheduler:
        return Scheduler(POLICIES[self.policy_name](self.targets), self.limits, CONFIGURED_MODELS, self.targets)

    def feed(self, event: Event | None) -> None:
        now_seconds = self.now_seconds
        commands = self.core.wake(now_seconds) if event is None else self.core.handle(event, now_seconds)
        self.history.append(((event, now_seconds), list(commands)))
        self.model.obey(commands, now_seconds)

    def pick(self, requests: list[ModelRequest], position: int) -> ModelRequest:
        return requests[position % len(requests)]

    @rule(
        model=st.sampled_from(["a", "a", "b", "unheard-of"]),
        tier=st.sampled_from(["priority", "default", "flex"]),
        patience_seconds=st.none() | st.sampled_from([0.0, 2.0, 20.0]),
        burst=st.integers(1, 4),
    )
    def requests_arrive(self, model: str, tier: str, patience_seconds: float | None, burst: int) -> None:
        deadline = None if patience_seconds is None else self.now_seconds + patience_seconds
        for _ in range(burst):
            arrival = RequestArrived(f"r{self.arrivals}", model, tier, deadline_at_seconds=deadline)
            self.arrivals += 1
            self.model.arrive(arrival, self.now_seconds)
            self.feed(arrival)

    @precondition(lambda self: self.model.running)
    @rule(position=PICKS)
    def request_finishes(self, position: int) -> None:
        request_id = self.pick(self.model.running, position).arrival.request_id
        self.model.end(request_id)
        self.feed(RequestFinished(request_id))

    @precondition(lambda self: self.model.requests)
    @rule(position=PICKS)
    def request_is_cancelled(self, position: int) -> None:
        request_id = self.pick(list(self.model.requests.values()), position).arrival.request_id
        self.model.end(request_id)
        self.feed(RequestCancelled(request_id))

    @precondition(lambda self: self.model.running)
    @rule(position=PICKS)
    def dispatch_fails(self, position: int) -> None:
        request = self.pick(self.model.running, position)
        assert request.worker is not None
        worker_id, _ = request.worker
        self.model.fail(request, self.now_seconds)
        self.feed(DispatchFailed(request.arrival.request_id, worker_id))

    @precondition(lambda self: self.model.over)
    @rule(position=PICKS, happened=st.sampled_from([RequestFinished, RequestCancelled]))
    def an_end_is_told_again(self, position: int, happened: type[RequestFinished | RequestCancelled]) -> None:
        self.feed(happened(self.model.over[position % len(self.model.over)]))

    @precondition(lambda self: self.model.served)
    @rule(position=PICKS, worker_id=WORKER_IDS)
    def a_failure_is_told_late(self, position: int, worker_id: str) -> None:
        request_id = self.model.served[position % len(self.model.served)]
        request = self.model.requests.get(request_id)
        if request is None or request.worker is None or request.worker[0] != worker_id:
            self.feed(DispatchFailed(request_id, worker_id))

    @rule(
        worker_id=WORKER_IDS,
        models=st.sampled_from([{"a"}, {"a", "b"}, {"b"}, {"a", "c"}]),
        max_running_requests=st.integers(0, 3),
        hardware=st.sampled_from(["h100", "cpu"]),
        can_park=st.booleans(),
    )
    def worker_is_ready(
        self, worker_id: str, models: set[str], max_running_requests: int, hardware: str, *, can_park: bool
    ) -> None:
        event = WorkerReady(worker_id, frozenset(models), max_running_requests, hardware, can_park)
        self.model.ready(event)
        self.feed(event)

    @rule(worker_id=WORKER_IDS, may_return=st.booleans(), returns_in_seconds=st.sampled_from([None, 1.0, 30.0]))
    def worker_is_lost(self, worker_id: str, returns_in_seconds: float | None, *, may_return: bool) -> None:
        returns_at_seconds = inf if returns_in_seconds is None else self.now_seconds + returns_in_seconds
        self.model.lose(worker_id, returns_at_seconds, may_return=may_return)
        self.feed(WorkerLost(worker_id, "killed", may_return, returns_in_seconds))

    @precondition(lambda self: any(worker.is_leaving for worker in self.model.workers.values()))
    @rule(position=PICKS)
    def worker_has_parked(self, position: int) -> None:
        leaving = [worker_id for worker_id, worker in self.model.workers.items() if worker.is_leaving]
        worker_id = leaving[position % len(leaving)]
        self.model.park(worker_id)
        self.feed(WorkerParked(worker_id))

    @rule(worker_id=WORKER_IDS, running_requests=st.integers(0, 9), work=st.none() | WORK)
    def worker_reports(self, worker_id: str, running_requests: int, work: WorkReport | None) -> None:
        self.feed(WorkerReported(worker_id, running_requests, 0, work))

    @rule(seconds=st.sampled_from([0.25, 1.0, 8.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        until_seconds = self.now_seconds + seconds
        while (wakeup := self.core.next_wakeup()) is not None and wakeup <= until_seconds:
            self.now_seconds = wakeup
            self.feed(None)
            assert self.core.next_wakeup() != wakeup, "a wake-up that is due must leave something to show for it"
        self.now_seconds = until_seconds

    @precondition(lambda self: self.arrivals > 60)
    @rule()
    def drain_starts(self) -> None:
        self.model.is_draining = True
        self.feed(DrainStarted())

    @invariant()
    def no_request_is_lost(self) -> None:
        states = {request_id: self.core.state_of(request_id) for request_id in self.model.requests}
        assert states == {
            request_id: RequestState.QUEUED if request.worker is None else RequestState.RUNNING
            for request_id, request in self.model.requests.items()
        }
        assert all(self.core.state_of(request_id) is RequestState.ABSENT for request_id in self.model.over)
        assert self.core.live_requests == len(self.model.requests)

    @invariant()
    def counts_are_exact_and_loads_within_bounds(self) -> None:
        snapshot = self.core.snapshot()
        loads = {one.worker_id: one.running_requests for one in snapshot.workers if one.state in {"ready", "parking"}}
        assert loads == {worker_id: self.model.load(worker_id) for worker_id in self.model.workers}
        assert {one.worker_id for one in snapshot.workers if one.state == "parked"} == self.model.parked
        assert {one.worker_id for one in snapshot.workers if one.state == "starting"} == self.model.starting
        # A worker may announce fewer places than are taken; 3 is the most that any ever had.
        assert all(0 <= worker.running_requests <= 3 for worker in snapshot.workers)
        assert snapshot.running_requests == len(self.model.running)
        assert snapshot.queued_requests == self.core.queued_requests == len(self.model.queued)
        assert snapshot.queued_requests_by_tier == Counter(request.arrival.tier for request in self.model.queued)

    @invariant()
    def a_request_waits_only_while_nobody_has_room_for_it(self) -> None:
        for request in self.model.queued:
            assert not self.model.candidates(request) or self.model.is_held(request, self.now_seconds)
            assert request.arrival.model not in self.model.announced or self.model.may_serve[request.arrival.model]

    @invariant()
    def the_queue_is_bounded_but_for_retries(self) -> None:
        newcomers = [request for request in self.model.queued if not request.dispatches]
        assert len(newcomers) <= self.limits.max_queued_requests

    @invariant()
    def the_wakeup_is_that_of_whoever_expires_first(self) -> None:
        queued, now_seconds = self.model.queued, self.now_seconds
        expiries = [self.model.expires_at_seconds(request) for request in queued]
        if not (self.model.is_draining or self.model.may_hold):
            expiries += [
                one.due_at_seconds for one in queued if one.due_at_seconds > now_seconds and not one.dispatches
            ]
        wakeup = self.core.next_wakeup()
        if self.model.may_hold:  # idle workers are looked at, and held requests become due
            assert not expiries or (wakeup is not None and wakeup <= min(expiries))
        else:
            assert wakeup == (min(expiries) if expiries else None)

    def teardown(self) -> None:
        """The same events at the same instants give the same commands."""
        core = self.new_core() if hasattr(self, "history") else None
        for (event, at_seconds), commands in getattr(self, "history", []):
            assert core is not None
            assert (core.wake(at_seconds) if event is None else core.handle(event, at_seconds)) == commands


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_laws_hold_in_every_history(policy: str) -> None:
    machine = type("Machine", (SchedulerMachine,), {"policy_name": policy})
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=60, deadline=None))
