"""The core by example: placement, waiting, refusal, cancellation and time. The laws are in tests/simulation."""

import pytest

from scheduler.commands import Command, Dispatch, Reject, RejectCause
from scheduler.core import Scheduler
from scheduler.errors import PolicyError, ProtocolError, SchedulerSettingError
from scheduler.events import (
    DrainStarted,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    WorkerReady,
    WorkerReported,
)
from scheduler.least_loaded import LeastLoaded
from scheduler.lifecycle import RequestState
from scheduler.limits import SchedulerLimits
from scheduler.placement import Hold, Placement, PlacementPolicy
from scheduler.pool import Pool
from scheduler.request import Request


def scheduler(
    *,
    policy: PlacementPolicy | None = None,
    max_queued_requests: int = 1024,
    queue_timeout_seconds: float = 600.0,
    models: frozenset[str] = frozenset({"m"}),
) -> Scheduler:
    return Scheduler(policy or LeastLoaded(), SchedulerLimits(max_queued_requests, queue_timeout_seconds), models)


def ready(worker_id: str, places: int = 1, *models: str) -> WorkerReady:
    return WorkerReady(worker_id, frozenset(models or {"m"}), places)


def arrive(core: Scheduler, *request_ids: str, at: float = 0.0, model: str = "m") -> list[Command]:
    return [command for name in request_ids for command in core.handle(RequestArrived(name, model), at)]


def only_reject(commands: list[Command]) -> Reject:
    [command] = commands
    assert isinstance(command, Reject)
    return command


def test_with_room_a_request_is_dispatched_at_once() -> None:
    core = scheduler()
    core.handle(ready("w1"), 0.0)
    assert arrive(core, "r1") == [Dispatch("r1", "w1", "only_worker")]
    assert core.next_wakeup() is None


def test_requests_spread_over_the_least_loaded_workers() -> None:
    core = scheduler()
    core.handle(ready("w1", 2), 0.0)
    core.handle(ready("w2", 2), 0.0)
    worker_ids = [c.worker_id for c in arrive(core, "r1", "r2", "r3", "r4") if isinstance(c, Dispatch)]
    assert worker_ids == ["w1", "w2", "w1", "w2"]


def test_before_any_worker_is_ready_requests_wait_and_then_go_in_order() -> None:
    core = scheduler()
    assert arrive(core, "r1", "r2", "r3") == []
    assert core.handle(ready("w1", 2), 1.0) == [
        Dispatch("r1", "w1", "only_worker"),
        Dispatch("r2", "w1", "only_worker"),
    ]
    assert core.handle(RequestFinished("r2"), 2.0) == [Dispatch("r3", "w1", "only_worker")]


def test_a_model_without_workers_does_not_stand_in_the_way_of_others() -> None:
    core = scheduler(models=frozenset({"a", "b"}))
    core.handle(ready("w1", 1, "b"), 0.0)
    assert arrive(core, "r1", "r2", model="a") == []
    assert arrive(core, "r3", model="b") == [Dispatch("r3", "w1", "only_worker")]


def test_a_worker_of_two_models_takes_the_oldest_of_either() -> None:
    core = scheduler(models=frozenset({"a", "b"}))
    core.handle(ready("w1", 1, "a", "b"), 0.0)
    arrive(core, "r0", "rb", model="b")
    arrive(core, "ra", model="a")
    assert core.handle(RequestFinished("r0"), 1.0) == [Dispatch("rb", "w1", "only_worker")]
    assert core.handle(RequestFinished("rb"), 2.0) == [Dispatch("ra", "w1", "only_worker")]


def test_an_unknown_model_is_refused_by_name() -> None:
    core = scheduler()
    reject = only_reject(arrive(core, "r1", model="other"))
    assert (reject.cause, reject.retry_after_seconds) == (RejectCause.UNKNOWN_MODEL, None)
    assert reject.reason == "the model 'other' is not served here; those served: m"


def test_a_model_that_a_worker_announces_becomes_known() -> None:
    core = scheduler(models=frozenset())
    core.handle(ready("w1", 1, "lora"), 0.0)
    assert arrive(core, "r1", model="lora") == [Dispatch("r1", "w1", "only_worker")]


def test_beyond_the_bound_a_request_is_refused_with_numbers() -> None:
    core = scheduler(max_queued_requests=2)
    assert arrive(core, "r1", "r2") == []
    assert arrive(core, "r3") == [Reject("r3", RejectCause.QUEUE_FULL, "requests waiting: 2, allowed: 2", 1)]
    assert core.state_of("r3") is RequestState.ABSENT
    core.handle(RequestCancelled("r1"), 0.0)
    assert arrive(core, "r4") == []


def test_a_bound_of_zero_places_or_refuses() -> None:
    core = scheduler(max_queued_requests=0)
    core.handle(ready("w1"), 0.0)
    assert isinstance(arrive(core, "r1")[0], Dispatch)
    assert only_reject(arrive(core, "r2")).cause is RejectCause.QUEUE_FULL


def test_retry_after_follows_the_pace_at_which_places_become_free() -> None:
    core = scheduler(max_queued_requests=10)
    core.handle(ready("w1"), 0.0)
    arrive(core, *(f"r{number}" for number in range(11)))
    for number in range(5):
        core.handle(RequestFinished(f"r{number}"), 3.0 * number)
        arrive(core, f"more{number}", at=3.0 * number)
    assert only_reject(arrive(core, "late", at=15.0)).retry_after_seconds == 30  # 10 wait, 3 s each


def test_a_queued_request_times_out_and_the_others_go_on() -> None:
    core = scheduler(queue_timeout_seconds=5.0)
    arrive(core, "r1", at=0.0)
    arrive(core, "r2", at=1.0)
    assert core.next_wakeup() == 5.0
    assert core.wake(4.9) == []
    assert core.wake(5.0) == [
        Reject("r1", RejectCause.QUEUE_TIMEOUT, "no worker had room for 5.0 s, the longest wait is 5.0 s", 1),
    ]
    assert core.next_wakeup() == 6.0
    assert core.handle(ready("w1"), 5.5) == [Dispatch("r2", "w1", "only_worker")]
    assert core.next_wakeup() is None


def test_a_deadline_ends_the_wait_before_the_timeout_does() -> None:
    core = scheduler()
    core.handle(RequestArrived("r1", "m", deadline_at_seconds=3.0), 0.0)
    assert core.next_wakeup() == 3.0
    reject = only_reject(core.wake(3.25))
    assert (reject.cause, reject.retry_after_seconds) == (RejectCause.DEADLINE_PASSED, None)
    assert reject.reason == "the deadline passed 0.250 s ago and the request had not started"


def test_a_request_that_arrives_after_its_deadline_is_refused_even_with_room() -> None:
    core = scheduler()
    core.handle(ready("w1"), 0.0)
    commands = core.handle(RequestArrived("r1", "m", deadline_at_seconds=0.0), 0.5)
    assert only_reject(commands).reason == "the deadline passed 0.500 s ago and the request had not started"


def test_cancelling_a_queued_request_takes_it_out_of_its_place() -> None:
    core = scheduler()
    arrive(core, "r1", "r2", "r3")
    assert core.handle(RequestCancelled("r2"), 0.0) == []
    commands = core.handle(ready("w1", 3), 1.0)
    assert [command.request_id for command in commands if isinstance(command, Dispatch)] == ["r1", "r3"]


def test_cancelling_a_running_request_frees_its_place() -> None:
    core = scheduler()
    core.handle(ready("w1"), 0.0)
    arrive(core, "r1", "r2")
    assert core.handle(RequestCancelled("r1"), 0.0) == [Dispatch("r2", "w1", "only_worker")]


@pytest.mark.parametrize("end", [RequestFinished, RequestCancelled])
def test_an_end_told_twice_frees_one_place(end: type[RequestFinished | RequestCancelled]) -> None:
    core = scheduler()
    core.handle(ready("w1"), 0.0)
    arrive(core, "r1", "r2", "r3")
    assert core.handle(end("r1"), 0.0) == [Dispatch("r2", "w1", "only_worker")]
    assert core.handle(RequestFinished("r1"), 0.0) == []
    assert core.handle(RequestCancelled("r1"), 0.0) == []
    assert core.state_of("r3") is RequestState.QUEUED


@pytest.mark.parametrize("places", [0, 1], ids=["queued", "running"])
def test_an_id_in_use_cannot_arrive_again(places: int) -> None:
    core = scheduler()
    core.handle(ready("w1", places), 0.0)
    arrive(core, "r1")
    before = core.snapshot()
    with pytest.raises(ProtocolError, match="RequestArrived cannot happen to request r1"):
        arrive(core, "r1")
    assert core.snapshot() == before


def test_a_queued_request_cannot_finish() -> None:
    core = scheduler()
    arrive(core, "r1")
    with pytest.raises(ProtocolError, match="RequestFinished cannot happen to request r1, which is queued"):
        core.handle(RequestFinished("r1"), 0.0)
    assert core.snapshot().queued_requests == 1


def test_draining_refuses_newcomers_and_serves_those_who_wait() -> None:
    core = scheduler()
    core.handle(ready("w1"), 0.0)
    arrive(core, "r1", "r2")
    assert core.handle(DrainStarted(), 1.0) == core.handle(DrainStarted(), 1.0) == []
    reject = only_reject(arrive(core, "r3"))
    assert (reject.cause, reject.retry_after_seconds) == (RejectCause.DRAINING, 10)
    assert core.handle(RequestFinished("r1"), 2.0) == [Dispatch("r2", "w1", "only_worker")]
    core.handle(RequestFinished("r2"), 3.0)
    assert core.live_requests == 0


def test_the_snapshot_says_what_waits_and_what_runs() -> None:
    core = scheduler()
    core.handle(ready("w1", 1), 0.0)
    core.handle(WorkerReported("w1", 3, 1), 0.0)
    core.handle(WorkerReported("unheard-of", 1, 1), 0.0)
    for request_id, tier in (("r1", "default"), ("r2", "flex"), ("r3", "flex"), ("r4", "default")):
        core.handle(RequestArrived(request_id, "m", tier), 0.0)
    snapshot = core.snapshot()
    assert (snapshot.queued_requests_by_tier, snapshot.queued_requests) == ({"flex": 2, "default": 1}, 3)
    assert (snapshot.running_requests, snapshot.is_draining) == (1, False)
    [worker] = snapshot.workers
    assert (worker.worker_id, worker.state, worker.generation, worker.models) == ("w1", "ready", 1, ("m",))
    assert (worker.running_requests, worker.max_running_requests) == (1, 1)
    assert (worker.reported_running_requests, worker.reported_waiting_requests) == (3, 1)
    [lane] = snapshot.lanes
    assert (lane.model, lane.queued_requests_by_tier, lane.running_requests) == ("m", {"flex": 2, "default": 1}, 1)


class HoldUntil:
    """Holds every request until an instant."""

    parks_workers = False

    def __init__(self, at_seconds: float) -> None:
        self.at_seconds = at_seconds

    def choose(self, request: Request, pool: Pool, now_seconds: float, /) -> Placement | Hold:
        return Placement("w1", "held") if now_seconds >= self.at_seconds else Hold("not_yet")


def test_what_the_policy_holds_keeps_its_order_and_is_offered_again_at_a_wakeup() -> None:
    core = scheduler(policy=HoldUntil(5.0))
    core.handle(ready("w1", 2), 0.0)
    assert arrive(core, "r1", "r2") == []
    assert core.wake(4.0) == []
    assert core.wake(5.0) == [Dispatch("r1", "w1", "held"), Dispatch("r2", "w1", "held")]


def test_a_newcomer_does_not_overtake_the_one_that_was_held() -> None:
    core = scheduler(policy=HoldUntil(5.0))
    core.handle(ready("w1", 1), 0.0)
    arrive(core, "r1")
    assert arrive(core, "r2", at=5.0) == [Dispatch("r1", "w1", "held")]


class HoldTier:
    """Holds the requests of one tier for ever."""

    parks_workers = False

    def choose(self, request: Request, pool: Pool, now_seconds: float, /) -> Placement | Hold:
        return Hold("for_ever") if request.arrival.tier == "priority" else Placement("w1", "not_priority")


def test_when_the_held_one_goes_the_next_is_offered_at_once() -> None:
    core = scheduler(policy=HoldTier())
    core.handle(ready("w1", 1), 0.0)
    core.handle(RequestArrived("r1", "m", "priority"), 0.0)
    assert arrive(core, "r2") == []
    assert core.snapshot().lanes[0].held_reason == "for_ever"
    assert core.handle(RequestCancelled("r1"), 1.0) == [Dispatch("r2", "w1", "not_priority")]


class Stray:
    parks_workers = False

    def choose(self, request: Request, pool: Pool, now_seconds: float, /) -> Placement:
        return Placement("w2", "stray")


def test_a_policy_cannot_choose_what_it_was_not_offered() -> None:
    core = scheduler(policy=Stray())
    core.handle(ready("w1"), 0.0)
    with pytest.raises(PolicyError, match="the policy chose worker 'w2', offered were: w1"):
        arrive(core, "r1")
    assert core.live_requests == 0


@pytest.mark.parametrize(
    ("max_queued_requests", "queue_timeout_seconds", "message"),
    [
        (-1, 1.0, "max_queued_requests is -1, expected a whole number of at least 0"),
        (1, 0.0, "queue_timeout_seconds is 0.0, expected finite seconds above 0"),
        (1, float("nan"), "queue_timeout_seconds is nan"),
        (1, float("inf"), "queue_timeout_seconds is inf"),
    ],
)
def test_limits_without_sense_are_named(max_queued_requests: int, queue_timeout_seconds: float, message: str) -> None:
    with pytest.raises(SchedulerSettingError, match=message):
        SchedulerLimits(max_queued_requests, queue_timeout_seconds)
