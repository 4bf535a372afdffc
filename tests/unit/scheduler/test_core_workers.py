"""The core by example: workers that fail, go, come back and change."""

from scheduler.commands import Command, Dispatch, Reject, RejectCause
from scheduler.core import Scheduler
from scheduler.events import (
    DispatchFailed,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    WorkerLost,
    WorkerReady,
    WorkerReported,
)
from scheduler.least_loaded import LeastLoaded
from scheduler.lifecycle import RequestState
from scheduler.limits import SchedulerLimits


def scheduler(*workers: WorkerReady, max_queued_requests: int = 1024) -> Scheduler:
    core = Scheduler(LeastLoaded(), SchedulerLimits(max_queued_requests, 600.0), frozenset({"m"}))
    for worker in workers:
        core.handle(worker, 0.0)
    return core


def ready(worker_id: str, places: int = 1, *models: str) -> WorkerReady:
    return WorkerReady(worker_id, frozenset(models or {"m"}), places)


def arrive(core: Scheduler, *request_ids: str, model: str = "m") -> list[Command]:
    return [command for name in request_ids for command in core.handle(RequestArrived(name, model), 0.0)]


def running(core: Scheduler) -> dict[str, int]:
    return {worker.worker_id: worker.running_requests for worker in core.snapshot().workers}


def test_a_failed_dispatch_goes_to_another_worker() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1")
    assert core.handle(DispatchFailed("r1", "w1"), 1.0) == [Dispatch("r1", "w2", "retry")]
    assert running(core) == {"w1": 0, "w2": 1}


def test_a_retry_waits_for_another_worker_rather_than_go_back() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1", "r2")
    assert core.handle(DispatchFailed("r1", "w1"), 1.0) == []
    assert core.handle(RequestFinished("r2"), 2.0) == [Dispatch("r1", "w2", "retry")]


def test_the_worker_that_failed_may_have_it_again_once_it_reports_ready_anew() -> None:
    core = scheduler(ready("w1"))
    arrive(core, "r1")
    assert core.handle(DispatchFailed("r1", "w1"), 1.0) == []
    assert core.handle(WorkerReported("w1", 0, 0), 1.5) == []
    assert core.handle(ready("w1"), 2.0) == [Dispatch("r1", "w1", "retry")]


def test_a_worker_that_came_back_before_the_failure_was_told_may_have_it_at_once() -> None:
    core = scheduler(ready("w1"))
    arrive(core, "r1")
    core.handle(WorkerLost("w1", "killed"), 1.0)
    core.handle(ready("w1"), 2.0)
    assert core.handle(DispatchFailed("r1", "w1"), 3.0) == [Dispatch("r1", "w1", "retry")]


def test_a_retry_goes_before_those_who_came_after_it() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1", "r2", "r3", "r4")
    assert core.handle(DispatchFailed("r1", "w1"), 1.0) == [Dispatch("r3", "w1", "only_worker")]
    assert core.handle(RequestFinished("r2"), 2.0) == [Dispatch("r1", "w2", "retry")]
    assert core.handle(RequestFinished("r1"), 3.0) == [Dispatch("r4", "w2", "only_worker")]


def test_a_retry_that_must_wait_does_not_block_newcomers_who_need_not() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1", "r2")
    core.handle(DispatchFailed("r1", "w1"), 1.0)
    assert arrive(core, "r3") == [Dispatch("r3", "w1", "only_worker")]


def test_a_retry_is_never_refused_for_a_full_queue_but_newcomers_are() -> None:
    core = scheduler(ready("w1"), max_queued_requests=0)
    arrive(core, "r1")
    assert core.handle(DispatchFailed("r1", "w1"), 1.0) == []
    assert core.state_of("r1") is RequestState.QUEUED
    [placed] = arrive(core, "r2")
    assert isinstance(placed, Dispatch)
    [refused] = arrive(core, "r3")
    assert isinstance(refused, Reject)
    assert refused.reason == "requests waiting: 1, allowed: 0"


def test_a_retry_past_its_deadline_is_refused_and_its_place_is_used() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    core.handle(RequestArrived("r1", "m", deadline_at_seconds=5.0), 0.0)
    arrive(core, "r2", "r3")
    rejected, dispatched = core.handle(DispatchFailed("r1", "w1"), 6.0)
    assert isinstance(rejected, Reject)
    assert rejected.cause is RejectCause.DEADLINE_PASSED
    assert dispatched == Dispatch("r3", "w1", "only_worker")


def test_the_wait_of_a_retry_is_its_own() -> None:
    core = scheduler(ready("w1"))
    arrive(core, "r1")
    core.handle(DispatchFailed("r1", "w1"), 1000.0)
    assert core.next_wakeup() == 1600.0


def test_late_and_repeated_failure_reports_change_nothing() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1")
    core.handle(DispatchFailed("r1", "w1"), 1.0)
    before = core.snapshot()
    assert core.handle(DispatchFailed("r1", "w1"), 1.0) == []  # it runs on w2 now
    assert core.handle(DispatchFailed("never", "w1"), 1.0) == []
    assert core.snapshot() == before
    core.handle(DispatchFailed("r1", "w2"), 3.0)
    assert core.handle(DispatchFailed("r1", "w2"), 3.0) == []  # it waits already
    core.handle(RequestCancelled("r1"), 4.0)
    assert core.handle(DispatchFailed("r1", "w2"), 5.0) == []
    assert core.live_requests == 0


def test_retries_of_workers_that_have_gone_wait_in_one_group_however_many_those_are() -> None:
    core = scheduler(*[ready(f"w{number}") for number in range(5)])
    arrive(core, *[f"r{number}" for number in range(5)])
    for number in range(5):
        core.handle(WorkerLost(f"w{number}", "killed", returns_in_seconds=1.0), 1.0)
        core.handle(DispatchFailed(f"r{number}", f"w{number}"), 1.0)
    lane = core._fleet.lane("m")
    assert lane is not None
    assert (core.queued_requests, len(lane._groups)) == (5, 1)
    assert core.handle(ready("w0"), 2.0) == [Dispatch("r0", "w0", "retry")]


def test_a_lost_worker_gets_nothing_and_its_requests_await_their_report() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1")
    assert core.handle(WorkerLost("w1", "no tokens for 60 s"), 1.0) == []
    assert core.state_of("r1") is RequestState.RUNNING
    assert core.handle(DispatchFailed("r1", "w1"), 2.0) == [Dispatch("r1", "w2", "retry")]


def test_late_ends_of_a_lost_generation_never_touch_the_next() -> None:
    core = scheduler(ready("w1", 2))
    arrive(core, "old1", "old2")
    core.handle(WorkerLost("w1", "killed"), 1.0)
    core.handle(ready("w1", 2), 2.0)
    assert [worker.generation for worker in core.snapshot().workers] == [2]
    arrive(core, "new1", "new2", "new3")
    assert running(core) == {"w1": 2}
    assert core.handle(RequestFinished("old1"), 3.0) == []
    assert core.handle(RequestCancelled("old2"), 3.0) == []
    assert running(core) == {"w1": 2}
    assert core.handle(RequestFinished("new1"), 4.0) == [Dispatch("new3", "w1", "only_worker")]


def test_a_worker_that_announces_itself_anew_keeps_its_load() -> None:
    core = scheduler(ready("w1", 1))
    arrive(core, "r1", "r2", "r3")
    assert core.handle(ready("w1", 2), 1.0) == [Dispatch("r2", "w1", "only_worker")]
    assert core.handle(ready("w1", 1), 2.0) == []
    assert running(core) == {"w1": 2}
    assert core.handle(RequestFinished("r1"), 3.0) == []
    assert core.handle(RequestFinished("r2"), 3.0) == [Dispatch("r3", "w1", "only_worker")]


def test_a_worker_that_changes_its_models_serves_the_new_ones_only() -> None:
    core = scheduler(ready("w1", 2, "m"), ready("w2", 1, "m"))
    arrive(core, "r1", "r2", "r3", "r4")
    core.handle(ready("w1", 2, "n"), 1.0)
    assert core.handle(RequestFinished("r1"), 1.0) == []
    assert arrive(core, "rn", model="n") == [Dispatch("rn", "w1", "only_worker")]
    assert core.handle(RequestFinished("r2"), 2.0) == [Dispatch("r4", "w2", "only_worker")]


def test_a_model_that_its_only_worker_gave_up_has_none() -> None:
    core = scheduler(ready("w1", 1, "m"))
    arrive(core, "r1", "r2")
    [refused] = core.handle(ready("w1", 1, "n"), 1.0)
    assert isinstance(refused, Reject)
    assert (refused.request_id, refused.cause) == ("r2", RejectCause.NO_WORKER)


def test_a_place_that_a_failure_freed_goes_to_the_models_served_now() -> None:
    core = scheduler(ready("w1", 1, "m"), ready("w2", 0, "m"))
    arrive(core, "r1")
    core.handle(ready("w1", 1, "n"), 1.0)
    arrive(core, "rn", model="n")
    assert core.handle(DispatchFailed("r1", "w1"), 2.0) == [Dispatch("rn", "w1", "only_worker")]


def test_requests_wait_for_a_worker_that_may_return() -> None:
    core = scheduler(ready("w1"))
    core.handle(WorkerLost("w1", "restarting", returns_in_seconds=5.0), 1.0)
    assert arrive(core, "r1") == []
    assert core.handle(ready("w1"), 2.0) == [Dispatch("r1", "w1", "only_worker")]


def test_while_nobody_knows_when_a_worker_returns_newcomers_are_refused_and_those_who_wait_go_on_waiting() -> None:
    core = scheduler(ready("w1"))
    arrive(core, "r1", "r2")
    core.handle(WorkerLost("w1", "gone"), 1.0)
    [refusal] = arrive(core, "r3")
    assert refusal == Reject("r3", RejectCause.WORKERS_LOST, "every worker that serves 'm' is lost", None)
    assert core.handle(ready("w1", 2), 2.0) == [Dispatch("r2", "w1", "only_worker")]


def test_a_worker_that_returns_too_late_for_a_deadline_is_not_waited_for() -> None:
    core = scheduler(ready("w1"))
    core.handle(WorkerLost("w1", "restarting", returns_in_seconds=30.0), 1.0)
    reason = "every worker that serves 'm' is lost, the first is expected in 30 s"
    in_a_hurry = RequestArrived("r1", "m", deadline_at_seconds=20.0)
    assert core.handle(in_a_hurry, 1.0) == [Reject("r1", RejectCause.WORKERS_LOST, reason, 30)]
    assert core.handle(RequestArrived("r2", "m", deadline_at_seconds=40.0), 1.0) == []


def test_once_the_last_worker_is_gone_for_good_waiting_is_refused() -> None:
    core = scheduler(ready("w1"), ready("w2"))
    arrive(core, "r1", "r2", "r3", "r4")
    assert core.handle(WorkerLost("w1", "gave up", may_return=False), 1.0) == []
    assert core.handle(WorkerLost("w2", "restarting"), 1.0) == []
    reason = "every worker that served 'm' is gone and none will return"
    assert core.handle(WorkerLost("w2", "gave up", may_return=False), 2.0) == [
        Reject("r3", RejectCause.NO_WORKER, reason, None),
        Reject("r4", RejectCause.NO_WORKER, reason, None),
    ]
    assert core.handle(DispatchFailed("r1", "w1"), 3.0) == [Reject("r1", RejectCause.NO_WORKER, reason, None)]
    assert arrive(core, "r5") == [Reject("r5", RejectCause.NO_WORKER, reason, None)]
    core.handle(ready("w3"), 4.0)
    assert arrive(core, "r6") == [Dispatch("r6", "w3", "only_worker")]


def test_losing_a_worker_nobody_heard_of_changes_nothing() -> None:
    core = scheduler()
    arrive(core, "r1")
    assert core.handle(WorkerLost("w9", "failed while loading", may_return=False), 1.0) == []
    assert core.state_of("r1") is RequestState.QUEUED
