"""The asyncio driver adds no decision: in virtual time it gives the commands that the bare core gives."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from scheduler.commands import Command, Dispatch, Park, Reject, Start
from scheduler.core import Scheduler
from scheduler.driver import SchedulerDriver
from scheduler.errors import RejectedError
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
    WorkReport,
)
from scheduler.lifecycle import RequestState
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets
from tests.simulation.virtual_time_loop import run_in_virtual_time

MODELS = frozenset({"a", "b"})
# Events fall on no grid, so that none meets a timer: which comes first would be the loop's choice.
LIMITS = SchedulerLimits(max_queued_requests=6, queue_timeout_seconds=3.1, flex_wait_seconds=2.3)
PATIENCE_SECONDS = 1.6
# Long enough for all waiting to end and for idle workers to be parked.
AFTERWARDS_SECONDS = 60.1
EVENTS_PER_HISTORY = 400


@dataclass
class History:
    """What happened when, and what the bare core said to it."""

    events: list[tuple[float, Event]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


class BareRun:
    """Feeds a core directly, choosing events that fit the state it is in; the same seed gives the same history."""

    def __init__(self, policy: str, seed: int) -> None:
        self.core = Scheduler(POLICIES[policy](LatencyTargets()), LIMITS, MODELS)
        self.random = random.Random(seed)
        self.history = History()
        self.placed_on: dict[str, str] = {}
        self.leaving: list[str] = []
        self.ids: list[str] = []
        self.steps = 0

    def run(self) -> History:
        now_seconds = 0.0
        for _ in range(EVENTS_PER_HISTORY):
            if self.random.random() < 0.03:
                now_seconds = self.lull(now_seconds)
            now_seconds += self.random.choice([0.25, 0.25, 0.5, 1.0]) * self.random.uniform(0.9, 1.1)
            self.happen(lambda: self.choose_event(now_seconds), now_seconds)  # noqa: B023  # called at once
        end_seconds = now_seconds + AFTERWARDS_SECONDS
        while (wakeup := self.core.next_wakeup()) is not None and wakeup < end_seconds:
            self.note(self.core.wake(wakeup))
        return self.history

    def lull(self, now_seconds: float) -> float:
        """What runs ends, and for half a minute the workers only report: those that idle are parked."""
        for request_id in self.ids:
            if self.core.state_of(request_id) is RequestState.RUNNING:
                now_seconds += self.random.uniform(0.01, 0.02)
                self.happen(lambda: RequestFinished(request_id, 100, 50), now_seconds)  # noqa: B023  # called at once
        for _ in range(9):
            now_seconds += self.random.uniform(3.0, 4.0)
            work = WorkReport(self.steps, self.steps * 0.05, self.steps, 0, 120 * now_seconds)
            for worker_id in ("w0", "w1", "w2"):
                now_seconds += self.random.uniform(0.01, 0.02)
                self.happen(lambda: WorkerReported(worker_id, 0, 0, work), now_seconds)  # noqa: B023  # called at once
        return now_seconds

    def happen(self, choose: Callable[[], Event], now_seconds: float) -> None:
        """What time brought before comes first, and may decide what is chosen."""
        while (wakeup := self.core.next_wakeup()) is not None and wakeup < now_seconds:
            self.note(self.core.wake(wakeup))
        event = choose()
        self.history.events.append((now_seconds, event))
        self.note(self.core.handle(event, now_seconds))

    def note(self, commands: list[Command]) -> None:
        self.history.commands += commands
        for command in commands:
            if isinstance(command, Dispatch):
                self.placed_on[command.request_id] = command.worker_id
            if isinstance(command, Park):
                self.leaving.append(command.worker_id)

    def choose_event(self, now_seconds: float) -> Event:
        kind = self.random.choices(["arrive", "worker", "running", "queued", "drain"], [10, 2, 7, 1, 0.02])[0]
        if kind == "drain" and len(self.ids) < EVENTS_PER_HISTORY / 4:
            kind = "arrive"
        if kind == "drain":
            return DrainStarted()
        if kind == "worker":
            return self.choose_worker_event(now_seconds)
        wanted = RequestState.RUNNING if kind == "running" else RequestState.QUEUED
        matching = [name for name in self.ids if self.core.state_of(name) is wanted]
        if kind == "arrive" or not matching:
            return self.choose_arrival(now_seconds)
        request_id = self.random.choice(matching)
        if wanted is RequestState.QUEUED or self.random.random() < 0.1:
            return RequestCancelled(request_id)
        if self.random.random() < 0.3:
            return DispatchFailed(request_id, self.placed_on[request_id])
        return RequestFinished(request_id)

    def choose_arrival(self, now_seconds: float) -> RequestArrived:
        self.ids.append(f"r{len(self.ids)}")
        deadline = now_seconds + PATIENCE_SECONDS if self.random.random() < 0.2 else None
        tier = self.random.choice(["priority", "default", "default", "flex"])
        return RequestArrived(self.ids[-1], self.random.choice("aab"), tier, deadline_at_seconds=deadline)

    def choose_worker_event(self, now_seconds: float) -> WorkerEvent:
        if self.leaving and self.random.random() < 0.5:
            return WorkerParked(self.leaving.pop())
        worker_id = self.random.choice(["w0", "w1", "w2"])
        kind = self.random.random()
        if kind < 0.6:
            models = frozenset(self.random.choice(["a", "b", "ab"]))
            return WorkerReady(worker_id, models, self.random.randint(1, 4), "h100", can_park=True)
        if kind < 0.8:
            self.steps += self.random.randint(0, 20)
            work = WorkReport(self.steps, self.steps * 0.05, self.steps, 0, 120 * now_seconds)
            return WorkerReported(worker_id, 1, 0, work)
        return WorkerLost(worker_id, "killed", may_return=self.random.random() < 0.9)


class DriverRun:
    """Lives through a history as a server would: one task per request, time by the event loop."""

    def __init__(self, core: Scheduler, history: History) -> None:
        self.history = history
        self.core = core
        self.commands: list[Command] = []
        self.tasks: dict[str, asyncio.Task[Dispatch]] = {}

    async def run(self) -> list[Command]:
        loop = asyncio.get_running_loop()
        self.driver = SchedulerDriver(self.core, loop.time, self.commands.append)
        for at_seconds, event in self.history.events:
            await asyncio.sleep(at_seconds - loop.time())
            self.happen(event)
            await asyncio.sleep(0)
        await asyncio.sleep(AFTERWARDS_SECONDS)
        for outcome in await asyncio.gather(*self.tasks.values(), return_exceptions=True):
            assert isinstance(outcome, Dispatch | RejectedError | asyncio.CancelledError)
        return self.commands

    def happen(self, event: Event) -> None:
        match event:
            case RequestArrived():
                self.tasks[event.request_id] = asyncio.create_task(self.driver.place(event))
            case DispatchFailed(request_id, worker_id):
                assert self.tasks[request_id].done()
                self.tasks[request_id] = asyncio.create_task(self.driver.place_again(request_id, worker_id))
            case RequestFinished():
                self.driver.finished(event)
            case RequestCancelled(request_id) if self.core.state_of(request_id) is RequestState.QUEUED:
                self.tasks[request_id].cancel()
            case RequestCancelled(request_id):
                self.driver.cancelled(request_id)
            case DrainStarted():
                self.driver.start_drain()
            case WorkerReady() | WorkerReported() | WorkerParked() | WorkerLost():
                self.driver.tell(event)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(10))
def test_the_driver_gives_the_commands_of_the_bare_core(policy: str, seed: int) -> None:
    history = BareRun(policy, seed).run()
    fresh = Scheduler(POLICIES[policy](LatencyTargets()), LIMITS, MODELS)
    assert run_in_virtual_time(DriverRun(fresh, history).run()) == history.commands
    assert {type(command) for command in history.commands} >= {Dispatch, Reject}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_same_seed_gives_the_same_history(policy: str) -> None:
    assert BareRun(policy, 7).run() == BareRun(policy, 7).run()
    assert BareRun(policy, 7).run() != BareRun(policy, 8).run()


def test_the_histories_try_parking_and_starting_too() -> None:
    commands = [command for seed in range(10) for command in BareRun("energy", seed).run().commands]
    assert {type(command) for command in commands} >= {Park, Start}
