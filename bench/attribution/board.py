"""The simulated device's energy counter, as NVML shows it: whole millijoules, refreshed now and then."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.attribution.power_model import FloatArray
from bench.attribution.trace import Trace
from metering.counter import MICROJOULES_PER_JOULE, MICROJOULES_PER_MILLIJOULE, CounterInfo, EnergyReading

SAMPLING_SECONDS: Final = 0.05
"""How often the meter's sampler reads the counter (metering/sampler.py)."""
# Two clocks never agree: the device's lags by this much (assumed), so that in the course of seconds the counter is
# looked at right after it moved, right before it moves, and at any time in between.
_CLOCK_LAG_RATIO: Final = 0.003
# The sampler's thread wakes up late, by so much on average (assumed).
_LATE_SECONDS: Final = 0.0003


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """How the device measures itself.

    The counter moves every `refresh_seconds` (100 ms on Ampere and Hopper, 20 ms on Volta; arXiv 2312.02741), by what
    was spent in the last `seen_ratio` of that time, scaled up to all of it (a quarter on A100 and H100, same source).
    Each rise is off by a normally distributed error with a standard deviation of `noise_ratio` of it.
    """

    refresh_seconds: float = 0.1
    seen_ratio: float = 1.0
    noise_ratio: float = 0.01


class Board:
    """The energy a traced run spent, true at any instant, and what its counter showed."""

    def __init__(self, trace: Trace, lasts_seconds: float) -> None:
        at = [0.0]
        energy = [0.0]
        for step in trace.steps:
            for until, watts in (
                (step.started_at_seconds, trace.idle_watts),
                (step.report.ended_at_seconds, step.watts),
            ):
                energy.append(energy[-1] + (until - at[-1]) * watts)
                at.append(until)
        energy.append(energy[-1] + (lasts_seconds - at[-1]) * trace.idle_watts)
        at.append(lasts_seconds)
        self._at, self._joules = np.array(at), np.array(energy)

    def joules(self, at_seconds: FloatArray | Sequence[float]) -> FloatArray:
        """Energy truly spent by these instants, from the start of the run."""
        joules: FloatArray = np.interp(at_seconds, self._at, self._joules)
        return joules

    def readings(self, sensor: SensorSettings, rng: np.random.Generator) -> list[EnergyReading]:
        """What the counter says at each of the sampler's looks; neither starts at a round instant."""
        ends_at = float(self._at[-1])
        period = sensor.refresh_seconds * (1 + _CLOCK_LAG_RATIO)
        refreshed: FloatArray = np.arange(-rng.random(), ends_at / period, dtype=np.float64) * period
        seen_from = np.maximum(refreshed - period * sensor.seen_ratio, 0.0)
        rises = (self.joules(refreshed) - self.joules(seen_from)) / sensor.seen_ratio
        rises *= np.maximum(0.0, 1.0 + sensor.noise_ratio * rng.standard_normal(len(rises)))
        rises[0] = 0.0
        shown = np.floor(rises.cumsum() * (MICROJOULES_PER_JOULE / MICROJOULES_PER_MILLIJOULE))
        looks = (np.arange(ends_at / SAMPLING_SECONDS) + rng.random()) * SAMPLING_SECONDS
        looks += rng.exponential(_LATE_SECONDS, len(looks))
        looks = looks[(looks >= refreshed[1]) & (looks <= ends_at)]
        latest = np.searchsorted(refreshed, looks, side="right") - 1
        return [
            EnergyReading(float(at), int(millijoules) * MICROJOULES_PER_MILLIJOULE)
            for at, millijoules in zip(looks, shown[latest], strict=True)
        ]


def counter_info(sensor: SensorSettings) -> CounterInfo:
    """The counter as the meter knows it."""
    return CounterInfo(
        device="gpu:0",
        component="gpu",
        source="replay",
        measured=False,
        update_period_seconds=sensor.refresh_seconds,
        uncertainty_ratio=None,
        description="simulated",
    )
