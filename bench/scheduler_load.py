"""Traffic for the scheduler's core in virtual time: it keeps a queue of a given length and times every decision.

Plays the outside world (arrivals, ends, telemetry, workers that fail, park and start) from a seed; what is measured is
the core alone.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Final, Literal

from scheduler.commands import Command, Dispatch, Park, Start
from scheduler.core import Scheduler
from scheduler.events import (
    DispatchFailed,
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

Scenario = Literal["saturated", "half-full", "churn"]
SCENARIOS: Final[tuple[Scenario, ...]] = ("saturated", "half-full", "churn")

_MODEL: Final = "m"
_TIERS: Final = ("default", "flex", "priority")
_PLACES: Final = 8
_TENANTS: Final = 100
_PROMPT_BYTES: Final = 4000
_OUTPUT_TOKENS: Final = 200
# One arrival, one end and one report each round: a thousand of each a second.
_ROUND_SECONDS: Final = 0.001
# One in ten rounds a worker is lost, a hundred a second: so about a fifth of a thousand are away at any time.
_RETURN_SECONDS: Final = 2.0
# Of the workers that could be awake so many are parked when churn begins.
_PARKED_RATIO: Final = 0.3
_CHURN_ROUNDS: Final = 10
# An engine whose KV cache is so full gets nothing but what cannot wait.
_FULL_KV_CACHE_RATIO: Final = 0.95


class SchedulerLoad:
    """A core with `workers` workers and `queued_requests` that wait, and what goes on around it.

    `saturated`: every place is taken, all tiers wait, a third of them with a deadline. `half-full`: half of the places
    are free and every waiting request is flex, held because no engine has room in its KV cache, so that each decision
    looks for a place in vain. `churn`: as saturated, and workers are lost, return, park and start, dispatches fail, and
    requests are given up. `seconds_by_kind` holds how long each decision took, by the event it was about.
    """

    def __init__(
        self,
        policy: str,
        scenario: Scenario,
        queued_requests: int,
        workers: int,
        clock: Callable[[], float] = time.thread_time,
        seed: int = 1,
    ) -> None:
        limits = SchedulerLimits(queued_requests + 10 * _PLACES * workers, 86_400.0, 43_200.0)
        self.core = Scheduler(POLICIES[policy](LatencyTargets()), limits, frozenset({_MODEL}))
        self.seconds_by_kind: dict[str, list[float]] = defaultdict(list)
        self._clock = clock
        self._scenario: Scenario = scenario
        self._queued_requests = queued_requests
        self._random = random.Random(seed)
        self._now_seconds = 0.0
        self._made = 0
        self._running: list[str] = []
        self._index_of: dict[str, int] = {}
        self._worker_of: dict[str, str] = {}
        self._queued: list[str] = []
        self._serving = [f"w{number:05}" for number in range(workers)]
        self._later: list[tuple[float, str]] = []
        self._rounds = 0
        for worker_id in self._serving:
            self._ready(worker_id)
            self._report(worker_id)
        if scenario == "churn" and POLICIES[policy](LatencyTargets()).parks_workers:
            self._park_some()
        self._take_places()

    def fill_queue(self) -> None:
        """Let requests arrive until as many wait as were asked for."""
        for _ in range(self._queued_requests):
            self._arrive()

    def round(self) -> None:
        """An end, an arrival, a report; in `churn` now and then something goes wrong."""
        self._rounds += 1
        self._now_seconds += _ROUND_SECONDS
        while self._later and self._later[0][0] <= self._now_seconds:
            worker_id = heappop(self._later)[1]
            self._serving.append(worker_id)
            self._ready(worker_id)
        self._finish()
        self._arrive()
        self._report(self._serving[self._rounds % len(self._serving)])
        wakeup_at = self.core.next_wakeup()
        if wakeup_at is not None and wakeup_at <= self._now_seconds:
            self._timed("wake", lambda: self.core.wake(self._now_seconds))
        if self._scenario == "churn":
            self._give_up()
            if self._rounds % _CHURN_ROUNDS == 0 and len(self._serving) > 1:
                self._lose()

    def forget_timings(self) -> None:
        """What came before was preparation."""
        self.seconds_by_kind.clear()

    def _take_places(self) -> None:
        taken = len(self._serving) * (_PLACES // 2 if self._scenario == "half-full" else _PLACES)
        for _ in range(taken):
            self._arrive(_TIERS[0])

    def _arrive(self, tier: str | None = None) -> None:
        number, self._made = self._made, self._made + 1
        if tier is None and self._scenario == "half-full":
            # What ends is replaced by what cannot wait; the queue is of what can.
            is_short = self.core.queued_requests < self._queued_requests
            tier = "flex" if is_short else "default"
        deadline = None if number % 3 or self._scenario == "half-full" else self._now_seconds + 3600.0 + number % 1000
        request_id = f"r{number}"
        if self._scenario == "churn":
            self._queued.append(request_id)
        arrival = RequestArrived(
            request_id,
            _MODEL,
            tier or _TIERS[number % len(_TIERS)],
            prompt_bytes=_PROMPT_BYTES,
            deadline_at_seconds=deadline,
            tenant=f"t{number % _TENANTS}",
        )
        self._handle("arrived", arrival)

    def _finish(self) -> None:
        if self._running:
            request_id = self._random.choice(self._running)
            self._no_longer_runs(request_id)
            self._handle("finished", RequestFinished(request_id, _PROMPT_BYTES // 4, _OUTPUT_TOKENS))

    def _give_up(self) -> None:
        """One that waits leaves; another comes in its place."""
        index = self._random.randrange(len(self._queued))
        self._queued[index], self._queued[-1] = self._queued[-1], self._queued[index]
        request_id = self._queued.pop()
        if self.core.state_of(request_id) is RequestState.QUEUED:  # else it has been placed since it was listed
            self._handle("cancelled", RequestCancelled(request_id))
            self._arrive()

    def _lose(self) -> None:
        worker_id = self._serving.pop(self._random.randrange(len(self._serving)))
        self._handle("lost", WorkerLost(worker_id, "killed", returns_in_seconds=_RETURN_SECONDS))
        heappush(self._later, (self._now_seconds + _RETURN_SECONDS, worker_id))
        for request_id in [one for one in self._running if self._worker_of[one] == worker_id]:
            self._no_longer_runs(request_id)
            self._queued.append(request_id)
            self._handle("dispatch_failed", DispatchFailed(request_id, worker_id))

    def _park_some(self) -> None:
        for _ in range(int(_PARKED_RATIO * len(self._serving))):
            self._handle("parked", WorkerParked(self._serving.pop()))

    def _ready(self, worker_id: str) -> None:
        ready = WorkerReady(worker_id, frozenset({_MODEL}), _PLACES, "h100", can_park=self._scenario == "churn")
        self._handle("ready", ready)

    def _report(self, worker_id: str) -> None:
        """Telemetry of an engine that does about what an H100 does at this batch."""
        steps = int(self._now_seconds * 100)
        kv_cache_usage_ratio = _FULL_KV_CACHE_RATIO if self._scenario == "half-full" else 0.3
        work = WorkReport(steps, steps * 0.008, steps * _PLACES, steps * 100, steps * 4.0, None, kv_cache_usage_ratio)
        self._handle("reported", WorkerReported(worker_id, _PLACES, 0, work))

    def _handle(self, kind: str, event: Event) -> None:
        self._timed(kind, lambda: self.core.handle(event, self._now_seconds))

    def _timed(self, kind: str, decide: Callable[[], list[Command]]) -> None:
        began_seconds = self._clock()
        commands = decide()
        self.seconds_by_kind[kind].append(self._clock() - began_seconds)
        self._obey(commands)

    def _obey(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Dispatch(request_id, worker_id):
                    self._worker_of[request_id] = worker_id
                    self._index_of[request_id] = len(self._running)
                    self._running.append(request_id)
                case Park(worker_id):
                    self._serving.remove(worker_id)
                    self._handle("parked", WorkerParked(worker_id))
                case Start(worker_id):
                    heappush(self._later, (self._now_seconds + _RETURN_SECONDS, worker_id))

    def _no_longer_runs(self, request_id: str) -> None:
        index, last = self._index_of.pop(request_id), self._running[-1]
        self._running[index] = last
        self._index_of[last] = index
        self._running.pop()
        self._index_of.pop(request_id, None)
        del self._worker_of[request_id]
