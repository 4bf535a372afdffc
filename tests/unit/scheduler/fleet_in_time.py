"""A core with its workers, driven through virtual time as the outside world would."""

from dataclasses import dataclass, field
from math import inf
from typing import Final

from scheduler.commands import Command, Dispatch, Park, Start
from scheduler.core import Scheduler
from scheduler.events import (
    Event,
    RequestArrived,
    RequestFinished,
    WorkerParked,
    WorkerReady,
    WorkerReported,
    WorkReport,
)
from scheduler.hardware import hardware_class
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets

_H100: Final = hardware_class("h100")


@dataclass
class FleetInTime:
    """Every worker is an H100 that reports each second and obeys `Park` and `Start` at once when `obeys`.

    `told` is every command with the instant at which it was given.
    """

    workers: int = 1
    places: int = 8
    limits: SchedulerLimits = field(default_factory=SchedulerLimits)
    policy: str = "energy"
    targets: LatencyTargets = field(default_factory=LatencyTargets)
    obeys: bool = True
    can_park: bool = True
    now_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.core = Scheduler(POLICIES[self.policy](self.targets), self.limits, frozenset({"m"}), self.targets)
        self.told: list[tuple[float, Command]] = []
        self.awake: set[str] = set()
        # One account for all: what counts is by how much it rises from report to report, and reports are few.
        self._steps, self._step_seconds, self._tokens = 0, 0.0, 0
        for number in range(self.workers):
            self.ready(f"w{number}")

    def ready(self, worker_id: str) -> list[Command]:
        self.awake.add(worker_id)
        ready = WorkerReady(worker_id, frozenset({"m"}), self.places, "h100", self.can_park)
        return self.handle(ready) + self.report(worker_id)

    def report(self, worker_id: str) -> list[Command]:
        """Telemetry of an engine that is just as the hardware's prior has it: it teaches nothing and shows progress."""
        worker = self.core._fleet.worker(worker_id)
        batch = 0 if worker is None else worker.running_requests
        if batch:
            steps = round(1.0 / _H100.step_seconds(batch))
            self._steps += steps
            self._step_seconds += steps * _H100.step_seconds(batch)
            self._tokens += steps * batch
        work = WorkReport(self._steps, self._step_seconds, self._tokens, 0)
        return self.handle(WorkerReported(worker_id, batch, 0, work))

    def handle(self, event: Event) -> list[Command]:
        return self._obeyed(self.core.handle(event, self.now_seconds))

    def arrive(
        self, *request_ids: str, tier: str = "default", prompt_bytes: int = 400, deadline: float | None = None
    ) -> list[Command]:
        return [
            command
            for one in request_ids
            for command in self.handle(
                RequestArrived(one, "m", tier, prompt_bytes=prompt_bytes, deadline_at_seconds=deadline)
            )
        ]

    def finish(self, *request_ids: str) -> list[Command]:
        return [command for one in request_ids for command in self.handle(RequestFinished(one))]

    def until(self, at_seconds: float) -> list[Command]:
        """Let time pass; the scheduler is woken exactly when it asks for it."""
        commands: list[Command] = []
        while self.now_seconds < at_seconds:
            wakeup_at = self.core.next_wakeup()
            report_at = float(int(self.now_seconds) + 1)
            self.now_seconds = min(at_seconds, report_at, max(wakeup_at or inf, self.now_seconds))
            if wakeup_at is not None and wakeup_at <= self.now_seconds:
                commands += self._obeyed(self.core.wake(self.now_seconds))
            if self.now_seconds == report_at:
                for worker_id in sorted(self.awake):
                    commands += self.report(worker_id)
        return commands

    def _obeyed(self, commands: list[Command]) -> list[Command]:
        given = list(commands)
        for command in given:
            self.told.append((self.now_seconds, command))
            if isinstance(command, Park):
                self.awake.discard(command.worker_id)
                if self.obeys:
                    self.handle(WorkerParked(command.worker_id))
            elif isinstance(command, Start) and self.obeys:
                commands = commands + self.ready(command.worker_id)
        return commands


def parks(commands: list[Command]) -> list[Park]:
    return [command for command in commands if isinstance(command, Park)]


def starts(commands: list[Command]) -> list[Start]:
    return [command for command in commands if isinstance(command, Start)]


def dispatched(commands: list[Command]) -> list[str]:
    return [command.request_id for command in commands if isinstance(command, Dispatch)]
