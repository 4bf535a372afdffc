"""The asyncio driver: who is told what, and that no place leaks whatever is cancelled when."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from scheduler.commands import Command, Dispatch, Reject, RejectCause
from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.errors import ProtocolError, RejectedError, RequestGoneError
from scheduler.events import RequestArrived, RequestFinished, WorkerLost, WorkerReady
from scheduler.least_loaded import LeastLoaded
from scheduler.lifecycle import RequestState
from scheduler.limits import SchedulerLimits
from tests.simulation.virtual_time_loop import run_in_virtual_time


class Setup:
    """A driver in virtual time over a core with one model, and what it was seen to command."""

    def __init__(self, places: int | None = 1, queue_timeout_seconds: float = 60.0) -> None:
        self.core = Scheduler(LeastLoaded(), SchedulerLimits(8, queue_timeout_seconds), frozenset({"m"}))
        self.commands: list[Command] = []
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.driver = SchedulerDriver(self.core, self.now, self.commands.append)
        if places is not None:
            self.ready(places)

    def ready(self, places: int = 1, worker_id: str = "w1") -> None:
        self.driver.tell(WorkerReady(worker_id, frozenset({"m"}), places))

    async def waiting(self, request_id: str) -> "asyncio.Task[Dispatch]":
        """A task that waits to place a request."""
        task = asyncio.create_task(self.driver.place(RequestArrived(request_id, "m")))
        await asyncio.sleep(0)
        assert self.core.state_of(request_id) is RequestState.QUEUED
        return task


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def main() -> None:
        await test()

    def run() -> None:
        run_in_virtual_time(main())

    run.__name__ = getattr(test, "__name__", "test")
    return run


def test_with_room_nothing_is_awaited() -> None:
    core = Scheduler(LeastLoaded(), SchedulerLimits(), frozenset({"m"}))
    driver = SchedulerDriver(core, lambda: 0.0)
    driver.tell(WorkerReady("w1", frozenset({"m"}), 1))
    with pytest.raises(StopIteration) as stopped:  # no event loop runs: the first step is the last
        driver.place(RequestArrived("r1", "m")).send(None)
    assert stopped.value.value == Dispatch("r1", "w1", "only_worker")


@in_virtual_time
async def test_a_request_waits_for_room() -> None:
    s = Setup()
    await s.driver.place(RequestArrived("r1", "m"))
    task = await s.waiting("r2")
    s.driver.finished(RequestFinished("r1"))
    assert await task == Dispatch("r2", "w1", "only_worker")
    assert s.commands == [Dispatch("r1", "w1", "only_worker"), Dispatch("r2", "w1", "only_worker")]


@in_virtual_time
async def test_a_refusal_at_once_is_raised_with_its_cause() -> None:
    s = Setup()
    with pytest.raises(RejectedError, match="unknown_model: the model 'x' is not served here") as raised:
        await s.driver.place(RequestArrived("r1", "x"))
    assert s.commands == [raised.value.reject]


@in_virtual_time
async def test_a_wait_ends_at_its_timeout_and_not_before() -> None:
    s = Setup(places=None, queue_timeout_seconds=5.0)
    task = await s.waiting("r1")
    with pytest.raises(RejectedError) as raised:
        await task
    assert raised.value.reject.cause is RejectCause.QUEUE_TIMEOUT
    assert s.now() == pytest.approx(5.0)


@in_virtual_time
async def test_an_earlier_deadline_moves_the_timer_forward() -> None:
    s = Setup(places=None, queue_timeout_seconds=50.0)
    patient = await s.waiting("r1")
    with pytest.raises(RejectedError) as raised:
        await s.driver.place(RequestArrived("r2", "m", deadline_at_seconds=3.0))
    assert raised.value.reject.cause is RejectCause.DEADLINE_PASSED
    assert s.now() == pytest.approx(3.0)
    with pytest.raises(RejectedError):
        await patient
    assert s.now() == pytest.approx(50.0)


@in_virtual_time
async def test_a_timer_left_over_from_a_request_that_went_serves_the_next() -> None:
    s = Setup(places=None, queue_timeout_seconds=5.0)
    first = await s.waiting("r1")
    await asyncio.sleep(3.0)
    second = await s.waiting("r2")
    first.cancel()
    with pytest.raises(RejectedError):
        await second
    assert s.now() == pytest.approx(8.0)


@in_virtual_time
async def test_cancelling_the_waiting_task_withdraws_the_request() -> None:
    s = Setup(places=None)
    task = await s.waiting("r1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert s.core.live_requests == 0
    s.ready()
    assert s.commands == []


@in_virtual_time
async def test_a_task_cancelled_with_its_answer_unread_gives_the_place_back() -> None:
    s = Setup(places=None)
    first, second = await s.waiting("r1"), await s.waiting("r2")
    s.ready(1)
    first.cancel()  # r1 has its place, the task has not run yet
    assert await second == Dispatch("r2", "w1", "only_worker")
    assert first.cancelled()
    assert s.core.live_requests == 1


@in_virtual_time
async def test_a_place_given_to_a_task_that_is_being_cancelled_goes_to_the_next() -> None:
    s = Setup(places=None)
    first, second = await s.waiting("r1"), await s.waiting("r2")
    first.cancel()
    s.ready(1)  # the core still knows r1: its command finds nobody
    assert s.core.state_of("r1") is RequestState.ABSENT
    assert await second == Dispatch("r2", "w1", "only_worker")
    assert [command.request_id for command in s.commands if isinstance(command, Dispatch)] == ["r1", "r2"]


@in_virtual_time
async def test_an_id_reused_while_its_first_owner_is_being_cancelled_is_left_alone() -> None:
    s = Setup(places=None)
    first = await s.waiting("r1")
    first.cancel()
    s.ready(1)
    assert await s.driver.place(RequestArrived("r1", "m")) == Dispatch("r1", "w1", "only_worker")
    await asyncio.wait([first])
    assert s.core.state_of("r1") is RequestState.RUNNING


@in_virtual_time
async def test_a_request_cancelled_by_another_task_is_gone_for_the_one_that_waits() -> None:
    s = Setup(places=None)
    task = await s.waiting("r1")
    s.driver.cancelled("r1")
    with pytest.raises(RequestGoneError, match="request r1 was cancelled"):
        await task
    assert s.core.live_requests == 0


@in_virtual_time
async def test_a_request_cancelled_before_its_answer_was_read_is_gone_too() -> None:
    s = Setup(places=None)
    task = await s.waiting("r1")
    s.ready(1)
    s.driver.cancelled("r1")
    with pytest.raises(RequestGoneError):
        await task
    assert s.core.live_requests == 0


@in_virtual_time
async def test_a_request_is_placed_again_at_once_or_when_there_is_room() -> None:
    s = Setup()
    s.ready(1, "w2")
    await s.driver.place(RequestArrived("r1", "m"))
    assert await s.driver.place_again("r1", "w1") == Dispatch("r1", "w2", "retry")
    again = asyncio.create_task(s.driver.place_again("r1", "w2"))
    await asyncio.sleep(0)
    assert not again.done()
    s.driver.tell(WorkerLost("w2", "killed"))
    s.ready(1, "w2")
    assert await again == Dispatch("r1", "w2", "retry")


@in_virtual_time
async def test_placing_again_what_cannot_be_is_an_error() -> None:
    s = Setup()
    with pytest.raises(RequestGoneError):
        await s.driver.place_again("never", "w1")
    await s.driver.place(RequestArrived("r1", "m"))
    with pytest.raises(ProtocolError, match="request r1 does not run on worker w9"):
        await s.driver.place_again("r1", "w9")
    task = await s.waiting("r2")
    with pytest.raises(ProtocolError, match="request r2 is being placed already"):
        await s.driver.place_again("r2", "w1")
    s.driver.finished(RequestFinished("r1"))
    assert (await task).worker_id == "w1"


@in_virtual_time
async def test_placing_again_may_be_refused() -> None:
    s = Setup()
    await s.driver.place(RequestArrived("r1", "m"))
    s.driver.tell(WorkerLost("w1", "gave up", may_return=False))
    with pytest.raises(RejectedError) as raised:
        await s.driver.place_again("r1", "w1")
    assert raised.value.reject.cause is RejectCause.NO_WORKER


@in_virtual_time
async def test_ends_told_twice_do_no_harm() -> None:
    s = Setup()
    await s.driver.place(RequestArrived("r1", "m"))
    s.driver.finished(RequestFinished("r1"))
    s.driver.finished(RequestFinished("r1"))
    s.driver.cancelled("r1")
    assert s.core.live_requests == 0


@in_virtual_time
async def test_a_drain_ends_when_the_last_admitted_request_does() -> None:
    s = Setup()
    await s.driver.place(RequestArrived("r1", "m"))
    task = await s.waiting("r2")
    s.driver.start_drain()
    drained = asyncio.create_task(s.driver.drained())
    with pytest.raises(RejectedError):
        await s.driver.place(RequestArrived("r3", "m"))
    s.driver.finished(RequestFinished("r1"))
    await task
    assert not drained.done()
    s.driver.finished(RequestFinished("r2"))
    await drained
    await s.driver.drained()


@in_virtual_time
async def test_who_stops_waiting_for_the_drain_is_not_in_its_way() -> None:
    s = Setup()
    await s.driver.place(RequestArrived("r1", "m"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(s.driver.drained(), 1.0)
    drained = asyncio.create_task(s.driver.drained())
    await asyncio.sleep(0)
    s.driver.finished(RequestFinished("r1"))
    await drained


@in_virtual_time
async def test_a_closed_driver_leaves_no_timer() -> None:
    s = Setup(places=None, queue_timeout_seconds=5.0)
    task = await s.waiting("r1")
    s.driver.close()
    s.driver.close()
    await asyncio.sleep(10.0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


@in_virtual_time
async def test_the_observer_sees_a_command_after_the_one_who_waits_for_it() -> None:
    s = Setup(places=None)
    task = await s.waiting("r1")
    seen: list[tuple[Command, bool]] = []
    s.driver._on_command = lambda command: seen.append((command, not s.driver._waiting))
    s.ready(1)
    assert seen == [(Dispatch("r1", "w1", "only_worker"), True)]
    assert not isinstance(await task, Reject)
