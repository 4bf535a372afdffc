"""Drives the scheduler's core and simulated engines in virtual time, as the asyncio driver does in real time.

Everything that happens is an event at an instant; events at one instant happen in the order in which they were made.
There is no chance in here: the same core, fleet and requests give the same commands.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from math import inf
from typing import assert_never

from bench.simulation.engine import Engine, EngineState
from bench.simulation.engine import Sequence as EngineSequence
from bench.simulation.errors import SimulationError
from bench.simulation.fleet import Fleet, FleetSample
from bench.simulation.request_log import SERVED, TOO_LONG, RequestLog
from bench.simulation.workload import PlannedRequest
from scheduler.commands import Command, Dispatch, Notice, Park, Reject, Start
from scheduler.core import Scheduler
from scheduler.events import DrainStarted, Event, RequestArrived, RequestFinished, WorkerParked

_BYTES_PER_PROMPT_TOKEN = 4  # of English text; the scheduler's own estimate of the tokens is part of what is tried
_SAMPLES = 288  # every five minutes of a day
_LEAST_SAMPLE_SECONDS = 1.0
# A timer of the real driver fires no finer than this either; keeps a wake-up that is due at once from stopping time.
_LEAST_WAKE_SECONDS = 0.001


class _Tick(Enum):
    REPORT = "report"
    SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class DriverSettings:
    """How engines report, and when to stop early.

    `gives_up` is asked about each request as it ends; True ends the simulation there, for searches that need not know
    how bad it gets.
    """

    report_seconds: float = 1.0
    gives_up: Callable[[RequestLog], bool] | None = None


@dataclass(slots=True)
class DriverRun:
    """What happened. `gave_up` is true where the settings stopped it."""

    requests: list[RequestLog] = field(default_factory=list)
    samples: list[FleetSample] = field(default_factory=list)
    commands: Counter[str] = field(default_factory=Counter)
    dispatch_reasons: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    ended_at_seconds: float = 0.0
    gave_up: bool = False


class SimulationDriver:
    """One simulation. `on_command` sees every command and its instant, in the order given."""

    def __init__(
        self,
        core: Scheduler,
        fleet: Fleet,
        settings: DriverSettings,
        on_command: Callable[[float, Command], None] | None = None,
    ) -> None:
        self._core = core
        self._fleet = fleet
        self._settings = settings
        self._on_command = on_command
        self._now = 0.0
        self._due: list[tuple[float, int, str | _Tick, int]] = []
        self._made = 0
        self._told: deque[Event] = deque()
        self._logs: dict[str, RequestLog] = {}
        self._run = DriverRun()
        self._sample_seconds = _LEAST_SAMPLE_SECONDS
        self._woken_at_seconds = -inf

    def run(self, requests: Sequence[PlannedRequest]) -> DriverRun:
        """Serve `requests`, which are in order of arrival, until the last one has ended.

        Raises:
            SimulationError: scheduler and engines contradict each other, or requests wait for ever.
        """
        self._sample_seconds = max(_LEAST_SAMPLE_SECONDS, requests[-1].arrives_at_seconds / _SAMPLES)
        for worker_id in self._fleet.engines:
            self._feed(self._fleet.ready(worker_id))
        self._push(0.0, _Tick.SAMPLE)
        self._push(self._settings.report_seconds, _Tick.REPORT)
        number = 0
        while (number < len(requests) or self._logs) and not self._run.gave_up:
            arrival_seconds = requests[number].arrives_at_seconds if number < len(requests) else inf
            wake_seconds = self._wake_due_seconds()
            if arrival_seconds <= self._due[0][0] and arrival_seconds <= wake_seconds:
                self._now = arrival_seconds
                self._arrive(number, requests[number])
                number += 1
                if number == len(requests):
                    self._feed(DrainStarted())  # nobody comes any more whom the held might join
            elif wake_seconds <= self._due[0][0]:
                self._now = self._woken_at_seconds = max(self._now, wake_seconds)
                self._carry_out(self._core.wake(self._now))
            else:
                self._next_due(waits_for_arrival=number < len(requests))
        return self._finish()

    # -- what happens --------------------------------------------------------------------------------------------

    def _arrive(self, number: int, planned: PlannedRequest) -> None:
        request_id = f"request-{number}"
        sequence = EngineSequence(number, planned.prompt_tokens, planned.output_tokens)
        log = RequestLog(planned, sequence)
        self._run.requests.append(log)
        if sequence.prompt_tokens + sequence.output_tokens > self._fleet.model.kv_capacity_tokens:
            self._end(log, TOO_LONG)  # the server refuses it before the scheduler hears of it
            return
        self._logs[request_id] = log
        prompt_bytes = planned.prompt_tokens * _BYTES_PER_PROMPT_TOKEN
        self._feed(RequestArrived(request_id, self._fleet.model.name, planned.tier, prompt_bytes))

    def _next_due(self, *, waits_for_arrival: bool) -> None:
        at_seconds, _, what, plan_number = heappop(self._due)
        match what:
            case _Tick.REPORT:
                self._now = at_seconds
                if not waits_for_arrival and self._fleet.is_quiet and self._core.next_wakeup() is None:
                    raise SimulationError(f"{len(self._logs)} requests wait, and nothing will ever happen to them")
                for report in self._fleet.reports(at_seconds):
                    self._feed(report)
                self._push(at_seconds + self._settings.report_seconds, _Tick.REPORT)
            case _Tick.SAMPLE:
                self._now = at_seconds
                self._run.samples.append(self._fleet.sample(at_seconds, self._core.queued_requests))
                self._push(at_seconds + self._sample_seconds, _Tick.SAMPLE)
            case str():
                engine = self._fleet.engines[what]
                if engine.plan_number == plan_number:
                    self._now = at_seconds
                    self._advance(what, engine)

    def _advance(self, worker_id: str, engine: Engine) -> None:
        was_starting = engine.state is EngineState.STARTING
        ended = engine.advance()
        self._push_engine(worker_id, engine)
        if was_starting:
            self._feed(self._fleet.ready(worker_id))
        for sequence in ended:
            request_id = f"request-{sequence.number}"
            log = self._logs.pop(request_id)
            self._end(log, SERVED)
            tokens = sequence.prompt_tokens, sequence.output_tokens
            self._feed(RequestFinished(request_id, *tokens, log.ttft_seconds, log.tpot_seconds))

    def _end(self, log: RequestLog, outcome: str) -> None:
        if log.outcome is not None:
            raise SimulationError(f"request {log.sequence.number} ended twice: {log.outcome}, then {outcome}")
        log.outcome = outcome
        if self._settings.gives_up is not None and self._settings.gives_up(log):
            self._run.gave_up = True

    def _finish(self) -> DriverRun:
        run = self._run
        run.ended_at_seconds = self._now
        if not run.gave_up:
            self._fleet.settle(self._now)
            run.samples.append(self._fleet.sample(self._now, self._core.queued_requests))
        return run

    # -- the scheduler -------------------------------------------------------------------------------------------

    def _wake_due_seconds(self) -> float:
        due_seconds = self._core.next_wakeup()
        return inf if due_seconds is None else max(due_seconds, self._woken_at_seconds + _LEAST_WAKE_SECONDS)

    def _feed(self, event: Event) -> None:
        self._carry_out(self._core.handle(event, self._now))

    def _carry_out(self, commands: list[Command]) -> None:
        """Obey, and tell the scheduler what that makes true, until nothing is left to tell."""
        self._obey(commands)
        while self._told:
            self._obey(self._core.handle(self._told.popleft(), self._now))

    def _obey(self, commands: list[Command]) -> None:
        for command in commands:
            if self._on_command is not None:
                self._on_command(self._now, command)
            self._run.commands[type(command).__name__.lower()] += 1
            self._obey_one(command)

    def _obey_one(self, command: Command) -> None:
        match command:
            case Dispatch(request_id, worker_id, reason):
                self._run.dispatch_reasons[reason] += 1
                log, engine = self._logs[request_id], self._fleet.engines[worker_id]
                log.dispatched_at_seconds = self._now
                plan_number = engine.plan_number
                engine.submit(log.sequence, self._now)
                if engine.plan_number != plan_number:
                    self._push_engine(worker_id, engine)
            case Reject(request_id, cause, _, _):
                self._end(self._logs.pop(request_id), cause.value)
            case Park(worker_id, _):
                self._fleet.engines[worker_id].park(self._now)
                self._told.append(WorkerParked(worker_id))
            case Start(worker_id, _):
                engine = self._fleet.engines[worker_id]
                engine.start(self._now)
                self._push_engine(worker_id, engine)
            case Notice(_, code, _):
                self._run.notices[code] += 1
            case _:
                assert_never(command)

    # -- time ----------------------------------------------------------------------------------------------------

    def _push_engine(self, worker_id: str, engine: Engine) -> None:
        at_seconds = engine.next_event_at_seconds
        if at_seconds is not None:
            self._push(at_seconds, worker_id, engine.plan_number)

    def _push(self, at_seconds: float, what: str | _Tick, plan_number: int = 0) -> None:
        self._made += 1
        heappush(self._due, (at_seconds, self._made, what, plan_number))
