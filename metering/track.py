"""The timeline of one counter: what it read, what it must read now, and what it never read.

Fed by the sampler's thread, read by the event loop. Its output is continuous and never falls, whatever the
hardware does: a counter that goes backwards or leaps starts a new epoch, in which counting resumes from the
value already reached. Knows nothing of steps or requests.
"""

import threading
from collections import deque
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE, CounterInfo, EnergyReading

# Two minutes at 20 readings a second; a step or an idle gap is split at most this far back.
_KEPT_POINTS: Final = 2400
# No single accelerator board or socket draws this much; a faster rise is a fault of the counter.
_IMPLAUSIBLE_WATTS: Final = 20_000.0
# How far past the last reading the last known power is believed.
_EXTRAPOLATION_LIMIT_SECONDS: Final = 3.0
# Power is the slope over at least this much time, so that one clock tick of a coarse counter does not rule it.
_POWER_WINDOW_SECONDS: Final = 0.25


class CounterTrack:
    """Continuous, monotone energy of one counter, in microjoules since its first reading.

    Counters refresh in steps (20 to 100 ms on NVIDIA boards, 10 ms for CPU clock ticks). Only readings whose value
    changed become points, so that the line between points follows the energy and not the refreshes; a value that
    stays the same for longer than `stall_seconds` is taken as it stands.

    `origin_microjoules` is the raw value that counts as zero; None takes the first reading.
    """

    def __init__(self, info: CounterInfo, origin_microjoules: int | None = None) -> None:
        self.info = info
        self.epochs = 1
        self._stall_seconds = max(0.5, 4 * info.update_period_seconds)
        self._origin = origin_microjoules
        self._offset = 0
        self._raw_last: int | None = None
        self._changed_at_seconds = 0.0
        self._points: deque[tuple[float, int]] = deque(maxlen=_KEPT_POINTS)
        self._lock = threading.Lock()

    def observe(self, reading: EnergyReading) -> bool:
        """Take one reading; true when it opened a new epoch (the counter was reset or leapt)."""
        with self._lock:
            if self._raw_last is None:
                self._open(reading)
                return False
            last_at, last_energy = self._points[-1]
            rise = reading.energy_microjoules - self._raw_last
            elapsed = reading.at_seconds - last_at
            if elapsed <= 0:
                return False
            self._raw_last = reading.energy_microjoules
            since_change = reading.at_seconds - self._changed_at_seconds
            if rise:
                self._changed_at_seconds = reading.at_seconds
            # What a counter that stood still catches up with was spent over all the time it stood still.
            if rise < 0 or rise > _IMPLAUSIBLE_WATTS * MICROJOULES_PER_JOULE * max(since_change, 0.05):
                self._start_epoch(reading, last_energy)
                return True
            if rise > 0 or elapsed > self._stall_seconds:
                self._points.append((reading.at_seconds, reading.energy_microjoules + self._offset))
            return False

    def confirmed_microjoules(self) -> int:
        """Energy up to the last reading: the counter's own delta, over all epochs."""
        with self._lock:
            return self._points[-1][1] if self._points else 0

    def estimate_microjoules(self, at_seconds: float) -> int:
        """Energy up to an instant: interpolated between readings, extrapolated after the last one."""
        with self._lock:
            if not self._points:
                return 0
            last_at, last_energy = self._points[-1]
            if at_seconds >= last_at:
                ahead = min(at_seconds - last_at, _EXTRAPOLATION_LIMIT_SECONDS)
                return last_energy + int(ahead * self._microwatts())
            return self._interpolate(at_seconds)

    def is_blind(self, at_seconds: float) -> bool:
        """Whether the counter has been silent for so long that its energy at this instant is not known."""
        with self._lock:
            return not self._points or at_seconds - self._points[-1][0] > _EXTRAPOLATION_LIMIT_SECONDS

    def power_watts(self, now_seconds: float) -> float | None:
        """Mean power over the last quarter second, or None when the counter no longer answers."""
        with self._lock:
            if len(self._points) < 2 or now_seconds - self._points[-1][0] > 2 * self._stall_seconds:
                return None
            return self._microwatts() / MICROJOULES_PER_JOULE

    def _open(self, reading: EnergyReading) -> None:
        self._raw_last = reading.energy_microjoules
        self._changed_at_seconds = reading.at_seconds
        origin = reading.energy_microjoules if self._origin is None else self._origin
        self._offset = -min(origin, reading.energy_microjoules)
        self._points.append((reading.at_seconds, reading.energy_microjoules + self._offset))

    def _start_epoch(self, reading: EnergyReading, reached: int) -> None:
        """The energy between the last good reading and this one is unknown: it is not invented."""
        self.epochs += 1
        self._offset = reached - reading.energy_microjoules
        self._points.append((reading.at_seconds, reached))

    def _microwatts(self) -> float:
        points = self._points
        last_at, last_energy = points[-1]
        for at, energy in reversed(points):
            if last_at - at >= _POWER_WINDOW_SECONDS:
                return (last_energy - energy) / (last_at - at)
        first_at, first_energy = points[0]
        return (last_energy - first_energy) / (last_at - first_at) if last_at > first_at else 0.0

    def _interpolate(self, at_seconds: float) -> int:
        after_at, after_energy = self._points[-1]
        for at, energy in reversed(self._points):
            if at <= at_seconds:
                share = (at_seconds - at) / (after_at - at) if after_at > at else 1.0
                return energy + int((after_energy - energy) * share)
            after_at, after_energy = at, energy
        return self._points[0][1]
