"""What the meter's own work costs: time for each engine step, and memory over an hour, in virtual time."""

import gc
import time
import tracemalloc
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.http_load import percentile
from metering.counter import CounterInfo, EnergyReading
from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.track import CounterTrack

_STEP_SECONDS: Final = 0.01
_STEPS_PER_READING: Final = 5  # 20 readings a second
_READINGS_PER_REFRESH: Final = 2
_WATTS: Final = 400
_PROMPT_TOKENS: Final = 200


@dataclass(frozen=True, slots=True)
class BookkeepingResult:
    """Seconds of one engine step in the meter, and of one request's end and the start of the next."""

    running_sequences: int
    counters: int
    steps: int
    median_seconds: float
    p99_seconds: float
    request_median_seconds: float

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """Growth from the end of a warm-up to the end."""

    warm_up_seconds: float
    simulated_seconds: float
    grown_bytes: int
    peak_bytes: int

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return asdict(self)


class _Traffic:
    """An engine that keeps so many sequences running, each of so many tokens, a hundred steps a second."""

    def __init__(self, running: int, tokens: int, counters: int) -> None:
        self._tracks = [CounterTrack(_info(number)) for number in range(counters)]
        self._now_seconds = 0.0
        self._observe()
        self.meter = EnergyMeter(self._tracks)
        self.meter.engine_ready(0.0)
        self._running = running
        self._tokens = tokens
        self._steps = 0
        self._live: list[tuple[str, float, int]] = []  # name, first token at, step in which it ends
        self._made = 0
        for place in range(running):
            self._start(1 + tokens * place // running)

    def step(self) -> tuple[float, list[float]]:
        """One engine step; returns the seconds that the meter took for it, and for each end and start with it."""
        self._steps += 1
        self._now_seconds = self._steps * _STEP_SECONDS
        if self._steps % _STEPS_PER_READING == 0:
            self._observe()
        ending = [one for one in self._live if one[2] <= self._steps]
        self._live = [one for one in self._live if one[2] > self._steps]
        step = self._step_of(len(ending))
        began = time.perf_counter()
        self.meter.step(step)
        took_seconds = time.perf_counter() - began
        return took_seconds, [self._replace(name, first_at_seconds) for name, first_at_seconds, _ in ending]

    def _replace(self, name: str, first_at_seconds: float) -> float:
        seconds = self._now_seconds - first_at_seconds
        began = time.perf_counter()
        self.meter.sequence_ended(name, EndedSequence(_PROMPT_TOKENS, _PROMPT_TOKENS, self._tokens, seconds))
        self.meter.request_ended(name, self._now_seconds)
        self._start(self._tokens)
        return time.perf_counter() - began

    def _step_of(self, starting: int) -> EngineStep:
        """As many prompts are computed as end: their places are taken at once."""
        return EngineStep(
            ended_at_seconds=self._now_seconds,
            duration_seconds=_STEP_SECONDS,
            prefill_tokens=_PROMPT_TOKENS * starting,
            decode_sequences=self._running,
            first_tokens=starting,
            first_token_prompt_tokens=_PROMPT_TOKENS * starting,
            inter_token_seconds=_STEP_SECONDS,
            unfinished_sequences=self._running,
            prefill_sequences=starting,
            first_token_context_tokens=_PROMPT_TOKENS * starting,
        )

    def _start(self, tokens: int) -> None:
        name = f"request-{self._made}"
        self._made += 1
        self.meter.request_started(name, self._now_seconds)
        self._live.append((name, self._now_seconds, self._steps + tokens))

    def _observe(self) -> None:
        refresh_seconds = _STEP_SECONDS * _STEPS_PER_READING * _READINGS_PER_REFRESH
        shown = int(self._now_seconds / refresh_seconds + 1e-9) * refresh_seconds * _WATTS
        for track in self._tracks:
            track.observe(EnergyReading(self._now_seconds, round(shown * 1e6)))


def measure_steps(running: int = 256, counters: int = 1, steps: int = 20_000) -> BookkeepingResult:
    """Time of one step's bookkeeping with `running` sequences, one of which ends and is replaced every other step."""
    traffic = _Traffic(running, 2 * running, counters)
    for _ in range(2 * running):
        traffic.step()
    taken = [traffic.step() for _ in range(steps)]
    of_steps = sorted(seconds for seconds, _ in taken)
    of_requests = sorted(seconds for _, ends in taken for seconds in ends)
    return BookkeepingResult(
        running,
        counters,
        steps,
        percentile(of_steps, 0.5) or 0.0,
        percentile(of_steps, 0.99) or 0.0,
        percentile(of_requests, 0.5) or 0.0,
    )


def measure_memory(simulated_seconds: float = 3600.0, warm_up_seconds: float = 300.0) -> MemoryResult:
    """Growth of the memory in use over simulated traffic of a hundred steps a second."""
    tracemalloc.start()
    try:
        traffic = _Traffic(16, 150, 1)
        for _ in range(round(warm_up_seconds / _STEP_SECONDS)):
            traffic.step()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(round(simulated_seconds / _STEP_SECONDS)):
            traffic.step()
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return MemoryResult(warm_up_seconds, simulated_seconds, after - before, peak)


def _info(number: int) -> CounterInfo:
    return CounterInfo(
        device=f"simulated:{number}",
        component="gpu",
        source="replay",
        measured=False,
        update_period_seconds=0.1,
        uncertainty_ratio=None,
        description="simulated",
    )
