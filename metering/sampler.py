"""Reading counters at a steady rate, in a thread of its own, so that a busy event loop cannot delay a reading.

Knows counters and one sink; what becomes of a reading is the sink's affair.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from metering.errors import CounterReadError
from metering.fault import CounterFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.counter import EnergyCounter, EnergyReading

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 0.05
"""20 Hz: twice the rate at which the slowest sensor we know refreshes."""
STOP_SECONDS = 2.0
"""A driver that does not answer for so long is not waited for: the thread dies with the process."""
SUSPENDED_SECONDS = 0.5
"""The two clocks are read one after the other; a machine that slept did so for longer than that takes."""


def _suspended_seconds() -> float:
    """How long the machine has slept since it was started: the boot clock goes on then, the monotonic clock does not.

    Source: clock_gettime(2). Zero where the kernel has no boot clock (macOS).
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _ignore(_fault: CounterFault, _unseen_seconds: float) -> None:
    """Nobody wants to hear of interruptions."""


class Sampler:
    """Gives every reading of every counter to `sink(index of the counter, reading)`, until stopped.

    The sink is called in the sampler's thread, or in the caller's of `read_once`, never by two at a time. The counters
    stay the caller's to close, after `stop`. `interrupted` hears of times in which nobody could read: which fault, and
    how many seconds passed that the monotonic clock does not show.
    """

    def __init__(
        self,
        counters: Sequence[EnergyCounter],
        sink: Callable[[int, EnergyReading], None],
        interrupted: Callable[[CounterFault, float], None] = _ignore,
        period_seconds: float = PERIOD_SECONDS,
        suspended_seconds: Callable[[], float] = _suspended_seconds,
    ) -> None:
        self._counters = tuple(counters)
        self._sink = sink
        self._interrupted = interrupted
        self._suspended_seconds = suspended_seconds
        self._slept_seconds = suspended_seconds()
        self._period_seconds = period_seconds
        self._pass = threading.Lock()
        self._failing: set[int] = set()
        self._failures = 0
        self._stopping = threading.Event()
        self._thread = self._new_thread()

    @property
    def failures(self) -> int:
        """Readings lost so far, of all counters."""
        return self._failures

    def start(self) -> None:
        """Begin sampling. A sampler starts once; a second call is a RuntimeError."""
        self._thread.start()

    def revive(self) -> None:
        """Start sampling again where the thread has died; harmless where it runs, was stopped or never started."""
        if self._thread.is_alive() or self._thread.ident is None or self._stopping.is_set():
            return
        self._interrupted(CounterFault.SAMPLER, 0.0)
        self._thread = self._new_thread()
        self._thread.start()

    def stop(self) -> None:
        """Wait for the reading in progress, unless it hangs, and end; harmless when not running."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def read_once(self) -> None:
        """Read every counter now, in this thread, beside the schedule. What the sink raises reaches the caller."""
        with self._pass:
            for index in range(len(self._counters)):
                self._read(index)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="wattline-sampler", daemon=True)

    def _run(self) -> None:
        due_at_seconds = time.monotonic()
        while not self._stopping.wait(max(0.0, due_at_seconds - time.monotonic())):
            with self._pass:
                self._mind_sleep()
                for index in range(len(self._counters)):
                    self._read_guarded(index)
            due_at_seconds = self._next_due(due_at_seconds)

    def _next_due(self, due_at_seconds: float) -> float:
        """Stay on the grid of the first reading, and skip the points that are already past."""
        late_periods = (time.monotonic() - due_at_seconds) / self._period_seconds
        return due_at_seconds + self._period_seconds * max(1, math.ceil(late_periods))

    def _mind_sleep(self) -> None:
        slept_seconds = self._suspended_seconds()
        unseen_seconds, self._slept_seconds = slept_seconds - self._slept_seconds, slept_seconds
        if unseen_seconds > SUSPENDED_SECONDS:
            self._interrupted(CounterFault.SUSPENDED, unseen_seconds)

    def _read(self, index: int) -> None:
        try:
            reading = self._counters[index].read()
        except CounterReadError as problem:
            self._lose(index, problem)
            return
        self._sink(index, reading)
        if index in self._failing:
            self._failing.discard(index)
            logger.info("energy counter answers again: device=%s", self._counters[index].info.device)

    def _read_guarded(self, index: int) -> None:
        try:
            self._read(index)
        except BaseException as problem:  # noqa: BLE001  supervises the thread: one bad reading must not end all others
            self._lose(index, problem)

    def _lose(self, index: int, problem: BaseException) -> None:
        """Count a lost reading, and say so at the beginning of an outage only."""
        self._failures += 1
        if index in self._failing:
            return
        self._failing.add(index)
        info = self._counters[index].info
        unexpected = None if isinstance(problem, CounterReadError) else problem
        logger.warning(
            "energy reading lost: device=%s component=%s source=%s reason=%s",
            info.device,
            info.component,
            info.source,
            problem,
            exc_info=unexpected,
        )
