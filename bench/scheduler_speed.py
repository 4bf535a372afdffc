"""What a decision of the scheduler's core costs: seconds by event and queue length, bytes by waiting request."""

import argparse
import gc
import json
import platform
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Final

from bench.http_load import percentile
from bench.scheduler_load import SCENARIOS, Scenario, SchedulerLoad
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets

# What a decision may cost with 100,000 requests waiting for 1,000 workers.
_MOST_MEDIAN_SECONDS: Final = 100e-6
_MOST_P99_SECONDS: Final = 1e-3
_MOST_BYTES: Final = 2048
_WARM_UP_ROUNDS: Final = 200
# The server's own: it freezes what is there when it starts, and looks for garbage once in so many allocations.
_SERVER_GARBAGE_THRESHOLD: Final = 20_000
GARBAGE_MODES: Final = ("server", "default", "off")
# The time of this thread says what a decision costs also where others use the processor; the wall's includes them.
CLOCKS: Final = MappingProxyType({"cpu": time.thread_time, "wall": time.perf_counter})


@dataclass(frozen=True, slots=True)
class SpeedSettings:
    """What is measured; every policy with every scenario it can be in, at every queue length."""

    policies: tuple[str, ...] = tuple(sorted(POLICIES))
    scenarios: tuple[Scenario, ...] = SCENARIOS
    queued_requests: tuple[int, ...] = (1000, 10_000, 100_000)
    workers: int = 1000
    rounds: int = 10_000
    garbage: str = "server"
    clock: str = "cpu"


@dataclass(frozen=True, slots=True)
class KindResult:
    """Decisions about one kind of event."""

    decisions: int
    median_seconds: float
    p99_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class GarbageResult:
    """Passes of the garbage collector while decisions were timed; the time they took is in the decisions' figures."""

    collections: int
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """One policy in one scenario. `bytes_per_queued_request` is all that was allocated while the queue was filled."""

    policy: str
    scenario: str
    queued_requests: int
    workers: int
    all_kinds: KindResult
    by_kind: dict[str, KindResult] = field(hash=False)
    bytes_per_queued_request: float
    garbage: GarbageResult

    @property
    def is_within_bounds(self) -> bool:
        """Whether median, p99 and memory are."""
        return (
            self.all_kinds.median_seconds <= _MOST_MEDIAN_SECONDS
            and self.all_kinds.p99_seconds <= _MOST_P99_SECONDS
            and self.bytes_per_queued_request <= _MOST_BYTES
        )

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return {**asdict(self), "is_within_bounds": self.is_within_bounds}


def cases(settings: SpeedSettings) -> Iterator[tuple[str, Scenario, int]]:
    """Policy, scenario and queue length; only a policy that holds requests can have a queue beside free places."""
    for policy in settings.policies:
        holds = POLICIES[policy](LatencyTargets()).parks_workers
        for scenario in settings.scenarios:
            if scenario != "half-full" or holds:
                yield from ((policy, scenario, queued) for queued in settings.queued_requests)


def measure(policy: str, scenario: Scenario, queued_requests: int, settings: SpeedSettings) -> SpeedResult:
    """Build the load, fill its queue, and time `settings.rounds` rounds of it."""
    with _garbage_as(settings.garbage):
        load = SchedulerLoad(policy, scenario, queued_requests, settings.workers, CLOCKS[settings.clock])
        bytes_each = _filled(load)
        for _ in range(min(_WARM_UP_ROUNDS, settings.rounds)):
            load.round()
        load.forget_timings()
        pauses: list[float] = []
        with _garbage_timed(pauses):
            for _ in range(settings.rounds):
                load.round()
    every = [seconds for kind in load.seconds_by_kind.values() for seconds in kind]
    return SpeedResult(
        policy=policy,
        scenario=scenario,
        queued_requests=load.core.queued_requests,
        workers=settings.workers,
        all_kinds=_summary(every),
        by_kind={kind: _summary(seconds) for kind, seconds in sorted(load.seconds_by_kind.items())},
        bytes_per_queued_request=bytes_each,
        garbage=GarbageResult(len(pauses), max(pauses, default=0.0)),
    )


def format_table(results: Sequence[SpeedResult], settings: SpeedSettings) -> str:
    """A line for each case and, beside the slowest kinds of event, what they were."""
    heading = (
        f"{'policy':<13}{'scenario':<11}{'queued':>8}{'median us':>11}{'p99 us':>9}{'max us':>9}"
        f"{'bytes each':>12}{'gc':>5}{'longest ms':>12}  within  slowest by p99"
    )
    lines = [_conditions(settings), heading]
    for one in results:
        slowest = sorted(one.by_kind.items(), key=lambda pair: -pair[1].p99_seconds)[:3]
        named = ", ".join(f"{kind} {seconds.p99_seconds * 1e6:.0f}" for kind, seconds in slowest)
        timed = one.all_kinds
        lines.append(
            f"{one.policy:<13}{one.scenario:<11}{one.queued_requests:>8}{timed.median_seconds * 1e6:>11.1f}"
            f"{timed.p99_seconds * 1e6:>9.1f}{timed.max_seconds * 1e6:>9.0f}{one.bytes_per_queued_request:>12.0f}"
            f"{one.garbage.collections:>5}{one.garbage.longest_seconds * 1e3:>12.1f}"
            f"  {'yes' if one.is_within_bounds else 'NO':<6}  {named}"
        )
    return "\n".join(lines)


def _conditions(settings: SpeedSettings) -> str:
    return (
        f"Python {platform.python_version()}, {settings.workers} workers, clock: {settings.clock}, "
        f"garbage collection: {settings.garbage}"
    )


def _filled(load: SchedulerLoad) -> float:
    """Fill the queue; bytes for each request that waits then."""
    gc.collect()
    tracemalloc.start()
    try:
        load.fill_queue()
        load.forget_timings()
        gc.collect()
        allocated, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return allocated / max(1, load.core.queued_requests)


def _summary(seconds: list[float]) -> KindResult:
    ordered = sorted(seconds)
    return KindResult(
        decisions=len(ordered),
        median_seconds=percentile(ordered, 0.5) or 0.0,
        p99_seconds=percentile(ordered, 0.99) or 0.0,
        max_seconds=ordered[-1] if ordered else 0.0,
    )


@contextmanager
def _garbage_as(mode: str) -> Iterator[None]:
    """Collect garbage as the server does, as Python does by itself, or not at all; afterwards as before."""
    threshold = gc.get_threshold()
    gc.collect()
    if mode == "server":
        gc.freeze()
        gc.set_threshold(_SERVER_GARBAGE_THRESHOLD)
    elif mode == "off":
        gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.set_threshold(*threshold)
        gc.unfreeze()


@contextmanager
def _garbage_timed(pauses: list[float]) -> Iterator[None]:
    began_seconds = 0.0

    def note(phase: str, _info: dict[str, int]) -> None:
        nonlocal began_seconds
        if phase == "start":
            began_seconds = time.perf_counter()
        else:
            pauses.append(time.perf_counter() - began_seconds)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments, measures and prints the result."""
    defaults = SpeedSettings()
    parser = argparse.ArgumentParser(prog="wattline bench scheduler", description=__doc__)
    parser.add_argument("--policies", nargs="+", choices=sorted(POLICIES), default=defaults.policies)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=defaults.scenarios)
    parser.add_argument("--queued-requests", nargs="+", type=int, default=defaults.queued_requests)
    parser.add_argument("--workers", type=int, default=defaults.workers)
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="an arrival, an end and a report each")
    parser.add_argument("--garbage", choices=GARBAGE_MODES, default=defaults.garbage, help="garbage collection")
    parser.add_argument(
        "--clock", choices=sorted(CLOCKS), default=defaults.clock, help="of this thread, or on the wall"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    as_json = given.pop("json")
    if min(given["workers"], given["rounds"], *given["queued_requests"]) < 1:
        parser.error("--workers, --rounds and --queued-requests must be at least 1")
    for name in ("policies", "scenarios", "queued_requests"):
        given[name] = tuple(given[name])
    settings = SpeedSettings(**given)
    results = [measure(*case, settings) for case in cases(settings)]
    if as_json:
        described = {"python": platform.python_version(), "garbage": settings.garbage, "clock": settings.clock}
        print(json.dumps({**described, "results": [one.as_json() for one in results]}, indent=2))
    else:
        print(format_table(results, settings))


if __name__ == "__main__":
    main()
