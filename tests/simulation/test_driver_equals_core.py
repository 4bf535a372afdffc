"""The asyncio driver adds no decision: in virtual time it gives the commands that the bare core gives."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from scheduler.commands import Command, Dispatch
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
    WorkerLost,
    WorkerReady,
    WorkerReported,
)
from scheduler.lifecycle import RequestState
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets
from tests.simulation.virtual_time_loop import run_in_virtual_time

MODELS = frozenset({"a", "b"})
# Events fall on quarters of a second; timers must not, or which comes first would be the loop's choice.
LIMITS = SchedulerLimits(max_queued_requests=6, queue_timeout_seconds=3.1)
PATIENCE_SECONDS = 1.6
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
        self.ids: list[str] = []

    def run(self) -> History:
        now_seconds = 0.0
        for _ in range(EVENTS_PER_HISTORY):
            now_seconds += self.random.choice([0.25, 0.25, 0.5, 1.0])
            while (wakeup := self.core.next_wakeup()) is not None and wakeup < now_seconds:
                self.note(self.core.wake(wakeup))
            event = self.choose_event(now_seconds)
            self.history.events.append((now_seconds, event))
            self.note(self.core.handle(event, now_seconds))
        while (wakeup := self.core.next_wakeup()) is not None:
            self.note(self.core.wake(wakeup))
        return self.history

    def note(self, commands: list[Command]) -> None:
        self.history.commands += commands
        for command in commands:
            if isinstance(command, Dispatch):
                self.placed_on[command.request_id] = command.worker_id

    def choose_event(self, now_seconds: float) -> Event:
        kind = self.random.choices(["arrive", "worker", "running", "queued", "drain"], [10, 2, 7, 1, 0.02])[0]
        if kind == "drain":
            return DrainStarted()
        if kind == "worker":
            return self.choose_worker_event()
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
        return RequestArrived(self.ids[-1], self.random.choice("aab"), deadline_at_seconds=deadline)

    def choose_worker_event(self) -> WorkerReady | WorkerReported | WorkerLost:
        worker_id = self.random.choice(["w0", "w1", "w2"])
        kind = self.random.random()
        if kind < 0.6:
            models = frozenset(self.random.choice(["a", "b", "ab"]))
            return WorkerReady(worker_id, models, self.random.randint(1, 4))
        if kind < 0.8:
            return WorkerReported(worker_id, 1, 0)
        return WorkerLost(worker_id, "killed", may_return=self.random.random() < 0.9)


class DriverRun:
    """Lives through a history as a server would: one task per request, time by the event loop."""

    def __init__(self, policy: str, history: History) -> None:
        self.history = history
        self.core = Scheduler(POLICIES[policy](LatencyTargets()), LIMITS, MODELS)
        self.commands: list[Command] = []
        self.tasks: dict[str, asyncio.Task[Dispatch]] = {}

    async def run(self) -> list[Command]:
        loop = asyncio.get_running_loop()
        self.driver = SchedulerDriver(self.core, loop.time, self.commands.append)
        for at_seconds, event in self.history.events:
            await asyncio.sleep(at_seconds - loop.time())
            self.happen(event)
            await asyncio.sleep(0)
        await asyncio.sleep(LIMITS.queue_timeout_seconds + 1)
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
            case WorkerReady() | WorkerReported() | WorkerLost():
                self.driver.tell(event)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(10))
def test_the_driver_gives_the_commands_of_the_bare_core(policy: str, seed: int) -> None:
    history = BareRun(policy, seed).run()
    assert run_in_virtual_time(DriverRun(policy, history).run()) == history.commands
    assert {type(command) for command in history.commands} >= {Dispatch}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_same_seed_gives_the_same_history(policy: str) -> None:
    assert BareRun(policy, 7).run() == BareRun(policy, 7).run()
    assert BareRun(policy, 7).run() != BareRun(policy, 8).run()
