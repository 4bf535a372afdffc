"""The timeline of one counter: what it read, what it must read now, and what it never read.

Fed by the sampler's thread, read by the event loop. Its output is continuous and never falls, whatever the
hardware does: after a fault a new epoch begins, in which counting resumes from the value already reached. Knows nothing
of steps or requests.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE, CounterInfo, EnergyReading
from metering.fault import CounterFault

# Two minutes at 20 readings a second; a step or an idle gap is split at most this far back.
_KEPT_POINTS: Final = 2400
# No single accelerator board or socket draws this much; a faster rise is a fault of the counter.
_IMPLAUSIBLE_WATTS: Final = 20_000.0
# How far past its last change a counter's last known power is believed. The slowest counter we know changes ten times
# a second and no powered device draws nothing, so one that stands still for longer does not tell.
_SILENCE_SECONDS: Final = 3.0
# A counter that was asked so recently, and has not changed for longer, answers but stands still.
_ASKED_RECENTLY_SECONDS: Final = 1.0
# Power is the slope over at least this much time, so that one clock tick of a coarse counter does not rule it.
_POWER_WINDOW_SECONDS: Final = 0.25


def _ignore(_info: CounterInfo, _fault: CounterFault) -> None:
    """Nobody wants to hear of faults."""


class CounterTrack:
    """Continuous, monotone energy of one counter, in microjoules since its first reading.

    Counters refresh in steps (20 to 100 ms on NVIDIA boards, 10 ms for CPU clock ticks). Only readings whose value
    changed become points, so that the line between points follows the energy and not the refreshes.

    `origin_microjoules` is the raw value that counts as zero; None takes the first reading. `report` hears of every
    fault once, in whichever thread notices it.
    """

    def __init__(
        self,
        info: CounterInfo,
        origin_microjoules: int | None = None,
        report: Callable[[CounterInfo, CounterFault], None] = _ignore,
    ) -> None:
        self.info = info
        self.epochs = 1
        self.faults: Counter[CounterFault] = Counter()
        self.generation = 0
        """Changes whenever what the counter told before can no longer be compared with what it tells."""
        self.lost_seconds = 0.0
        """How long the counter's resets and jumps have kept from us in all: nobody can know what was spent then."""
        self.stray_microjoules = 0
        """Energy told after a silence: really spent, but nobody can know any more when, and so by whom."""
        self.silence_seconds = max(_SILENCE_SECONDS, 4 * info.update_period_seconds)
        """How far past its last change the counter's last known power is believed."""
        self._report = report
        self._stall_seconds = max(0.5, 4 * info.update_period_seconds)
        self._origin = origin_microjoules
        self._offset = 0
        self._raw_last: int | None = None
        self._asked_at_seconds = 0.0
        self._changed_at_seconds = 0.0
        self._unseen_seconds = 0.0  # that passed since the last change without the clock
        self._is_interrupted = False
        self._has_moved = False
        self._known_until_seconds = float("-inf")
        self._points: deque[tuple[float, int]] = deque(maxlen=_KEPT_POINTS)
        self._lock = threading.Lock()

    # -- the sampler's side --------------------------------------------------------------------------------------

    def observe(self, reading: EnergyReading) -> None:
        """Take one reading."""
        with self._lock:
            fault = self._take(reading)
        if fault is not None:
            self._report(self.info, fault)

    def interrupt(self, fault: CounterFault, unseen_seconds: float = 0.0) -> None:
        """Nobody was looking for a while: what the next reading tells is stray.

        `unseen_seconds` passed without showing on the clock that readings are timed by.
        """
        with self._lock:
            self._unseen_seconds += unseen_seconds
            self._note(fault)
            self._is_interrupted = True
        self._report(self.info, fault)

    # -- the meter's side ----------------------------------------------------------------------------------------

    def is_blind(self, at_seconds: float) -> bool:
        """Whether the counter has been silent for so long that its energy at this instant is not known."""
        fault = None
        with self._lock:
            if self._raw_last is None:
                return True
            blind = self._is_interrupted or at_seconds - self._points[-1][0] > self.silence_seconds
            if blind and not self._is_interrupted:
                stands_still = at_seconds - self._asked_at_seconds < _ASKED_RECENTLY_SECONDS
                fault = CounterFault.STALL if stands_still else CounterFault.LOST
                self._note(fault)
                self._is_interrupted = True
        if fault is not None:
            self._report(self.info, fault)
        return blind

    @property
    def known_until_seconds(self) -> float:
        """Up to when the timeline rests on readings. Asked so often that it takes no lock."""
        return self._known_until_seconds

    @property
    def is_telling(self) -> bool:
        """Whether the counter answers and moves, as far as has been noticed."""
        return self._raw_last is not None and not self._is_interrupted

    @property
    def has_moved(self) -> bool:
        """Whether the counter has ever risen; one that has not measures nothing."""
        return self._has_moved

    def knew_nothing_since(self, at_seconds: float) -> bool:
        """Whether not even a power to extrapolate by has been known since then: one reading tells none."""
        with self._lock:
            return len(self._points) < 2 and self._known_until_seconds <= at_seconds

    def spent_microjoules(self, began_at_seconds: float, ended_at_seconds: float, generation: int) -> int | None:
        """What a stretch of time cost, as far as is known now; None where the counter's timeline broke since."""
        with self._lock:
            if generation != self.generation or not self._points:
                return None
            return self._estimate(ended_at_seconds) - self._estimate(began_at_seconds)

    def confirmed_microjoules(self) -> int:
        """Energy up to the last reading: the counter's own delta, over all epochs."""
        with self._lock:
            return self._points[-1][1] if self._points else 0

    def estimate_microjoules(self, at_seconds: float) -> int:
        """Energy up to an instant: interpolated between readings, extrapolated after the last one."""
        with self._lock:
            return self._estimate(at_seconds) if self._points else 0

    def power_watts(self, now_seconds: float) -> float | None:
        """Mean power over the last quarter second, or None when the counter no longer answers."""
        with self._lock:
            if len(self._points) < 2 or now_seconds - self._points[-1][0] > 2 * self._stall_seconds:
                return None
            return self._microwatts() / MICROJOULES_PER_JOULE

    # -- inside --------------------------------------------------------------------------------------------------

    def _estimate(self, at_seconds: float) -> int:
        last_at, last_energy = self._points[-1]
        if at_seconds >= last_at:
            ahead = min(at_seconds - last_at, self.silence_seconds)
            return last_energy + int(ahead * self._microwatts())
        return self._interpolate(at_seconds)

    def _take(self, reading: EnergyReading) -> CounterFault | None:
        if self._raw_last is None:
            self._open(reading)
            return None
        last_at, last_energy = self._points[-1]
        elapsed = reading.at_seconds - last_at
        if elapsed <= 0:
            return None
        rise, self._raw_last = reading.energy_microjoules - self._raw_last, reading.energy_microjoules
        answered = reading.at_seconds - self._asked_at_seconds < _ASKED_RECENTLY_SECONDS
        self._asked_at_seconds = reading.at_seconds
        if rise == 0:
            if self.info.may_stand_still and elapsed > self._stall_seconds / 2:
                self._is_interrupted = False
                self._append(reading.at_seconds, last_energy)
            return None
        # What a counter that stood still catches up with was spent over all the time it stood still.
        since_change = reading.at_seconds - self._changed_at_seconds + self._unseen_seconds
        was_noticed = self._is_interrupted
        was_silent = was_noticed or elapsed > self.silence_seconds
        self._has_moved = True
        self._changed_at_seconds = reading.at_seconds
        self._unseen_seconds = 0.0
        self._is_interrupted = False
        if rise < 0 or rise > _IMPLAUSIBLE_WATTS * MICROJOULES_PER_JOULE * max(since_change, 0.05):
            fault = CounterFault.RESET if rise < 0 else CounterFault.JUMP
            self._note(fault)
            self.lost_seconds += elapsed
            self._start_epoch(reading, last_energy)
            return fault
        if was_silent:
            self.stray_microjoules += rise
            self._points.clear()  # the slope across the silence is no power that the device ever drew
            self.generation += 1
        self._append(reading.at_seconds, reading.energy_microjoules + self._offset)
        if was_noticed or not was_silent:
            return None
        unnoticed = CounterFault.STALL if answered else CounterFault.LOST
        self._note(unnoticed)
        return unnoticed

    def _open(self, reading: EnergyReading) -> None:
        self._raw_last = reading.energy_microjoules
        self._asked_at_seconds = self._changed_at_seconds = reading.at_seconds
        origin = reading.energy_microjoules if self._origin is None else self._origin
        self._offset = -min(origin, reading.energy_microjoules)
        self._append(reading.at_seconds, reading.energy_microjoules + self._offset)

    def _append(self, at_seconds: float, microjoules: int) -> None:
        self._points.append((at_seconds, microjoules))
        self._known_until_seconds = at_seconds

    def _note(self, fault: CounterFault) -> None:
        self.epochs += 1
        self.generation += 1
        self.faults[fault] += 1

    def _start_epoch(self, reading: EnergyReading, reached: int) -> None:
        """The energy between the last good reading and this one is unknown: it is not invented."""
        self._offset = reached - reading.energy_microjoules
        self._points.clear()
        self._append(reading.at_seconds, reached)

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
