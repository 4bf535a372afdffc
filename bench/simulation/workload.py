"""The requests of a simulation, made of a trace: faster or slower, for longer, shaped like a day, some of them flex.

The same settings and the same trace give the same requests.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, inf, pi

from bench.simulation.errors import SimulationSettingError
from bench.simulation.trace import TraceRequest
from scheduler.tiers import DEFAULT, FLEX

SECONDS_PER_DAY = 86_400.0
# What a simulation gets through in an hour or so, and in a few gigabytes.
_MOST_REQUESTS = 10_000_000
_MOST_SECONDS = 31 * SECONDS_PER_DAY
# Of arrivals that are thinned out, too; reached in half a minute.
_MOST_LOOKED_AT = 3 * _MOST_REQUESTS
_LEAST_PERIOD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """What to make of a trace.

    `rate_scale` divides the gaps between arrivals. `duration_seconds` repeats or cuts the trace; None plays it once.
    With `peak_to_trough_ratio` above 1, arrivals are thinned along a sinusoid of `period_seconds` (None: a day, or the
    duration where that is shorter) that begins in the trough; the trace's own rate, scaled, is the peak.

    Raises:
        SimulationSettingError: a setting makes no sense; the message names it.
    """

    rate_scale: float = 1.0
    duration_seconds: float | None = None
    peak_to_trough_ratio: float = 1.0
    period_seconds: float | None = None
    flex_share_ratio: float = 0.0
    limit_requests: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        _expect("--rate-scale", self.rate_scale, 0 < self.rate_scale < inf, "a finite number above 0")
        ratio = self.peak_to_trough_ratio
        _expect("--diurnal-peak-to-trough", ratio, 1 <= ratio < inf, "a finite number of at least 1")
        _expect("--flex-share", self.flex_share_ratio, 0 <= self.flex_share_ratio <= 1, "a number from 0 to 1")
        duration, period = self.duration_seconds, self.period_seconds
        is_duration = duration is None or 0 < duration <= _MOST_SECONDS
        _expect("--duration-seconds", duration, is_duration, f"seconds above 0 and at most {_MOST_SECONDS:.0f}")
        is_period = period is None or _LEAST_PERIOD_SECONDS <= period < inf
        _expect("--diurnal-period-seconds", period, is_period, f"finite seconds of at least {_LEAST_PERIOD_SECONDS:g}")
        limit = self.limit_requests
        _expect("--limit-requests", limit, limit is None or limit > 0, "a whole number above 0")


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request to come; the first one comes at 0."""

    arrives_at_seconds: float
    prompt_tokens: int
    output_tokens: int
    tier: str


def plan_requests(trace: Sequence[TraceRequest], settings: WorkloadSettings) -> tuple[PlannedRequest, ...]:
    """The requests in order of arrival, the first at 0.

    Raises:
        SimulationSettingError: no request is left, or far too many, over far too long.
    """
    # One stream of chance for each choice, so that a share of flex traffic leaves the arrivals as they are.
    thinning, tiers = random.Random(f"{settings.seed}/thinning"), random.Random(f"{settings.seed}/tiers")
    planned: list[PlannedRequest] = []
    first_at_seconds = None
    for looked_at, (at_seconds, request) in enumerate(_arrivals(trace, settings)):
        if looked_at > _MOST_LOOKED_AT:
            raise SimulationSettingError(
                f"{looked_at} arrivals by {at_seconds:.3g} s leave {len(planned)} requests: expected a "
                "--diurnal-peak-to-trough that thins fewer, a lower --rate-scale or a shorter --duration-seconds"
            )
        if settings.peak_to_trough_ratio > 1 and thinning.random() >= shape_ratio(at_seconds, settings):
            continue
        first_at_seconds = at_seconds if first_at_seconds is None else first_at_seconds
        tier = FLEX if tiers.random() < settings.flex_share_ratio else DEFAULT
        arrives_at_seconds = at_seconds - first_at_seconds
        planned.append(PlannedRequest(arrives_at_seconds, request.prompt_tokens, request.output_tokens, tier))
        if len(planned) == settings.limit_requests:
            break
        if len(planned) > _MOST_REQUESTS or arrives_at_seconds > _MOST_SECONDS:
            raise SimulationSettingError(
                f"{len(planned)} requests over {arrives_at_seconds:.0f} s and more: expected at most {_MOST_REQUESTS} "
                f"over {_MOST_SECONDS:.0f} s; --rate-scale, --duration-seconds and --limit-requests say how many"
            )
    if not planned:
        raise SimulationSettingError("--duration-seconds: no request arrives in that time, expected a longer one")
    return tuple(planned)


def shape_ratio(at_seconds: float, settings: WorkloadSettings) -> float:
    """The rate of arrivals over the peak's, by time of day: lowest at 0, highest half a period later."""
    duration_seconds = settings.duration_seconds or SECONDS_PER_DAY
    period_seconds = settings.period_seconds or min(SECONDS_PER_DAY, duration_seconds)
    trough = 1 / settings.peak_to_trough_ratio
    return trough + (1 - trough) * (1 - cos(2 * pi * at_seconds / period_seconds)) / 2


def _arrivals(trace: Sequence[TraceRequest], settings: WorkloadSettings) -> Iterator[tuple[float, TraceRequest]]:
    """The trace, once or for as long as is asked; a repetition follows after the trace's mean gap."""
    if settings.duration_seconds is None:
        yield from ((request.at_seconds / settings.rate_scale, request) for request in trace)
        return
    gap_seconds = trace[-1].at_seconds / (len(trace) - 1) if len(trace) > 1 else 0.0
    period_seconds = (trace[-1].at_seconds + gap_seconds) / settings.rate_scale
    if not period_seconds:
        raise SimulationSettingError("--duration-seconds: the trace spans no time, so it cannot be repeated")
    starts_at_seconds = 0.0
    while True:
        for request in trace:
            at_seconds = starts_at_seconds + request.at_seconds / settings.rate_scale
            if at_seconds >= settings.duration_seconds:
                return
            yield at_seconds, request
        starts_at_seconds += period_seconds


def _expect(key: str, value: object, holds: bool, expected: str) -> None:  # noqa: FBT001  # a condition, not a mode
    if not holds:
        raise SimulationSettingError(f"{key} is {value}, expected {expected}")
