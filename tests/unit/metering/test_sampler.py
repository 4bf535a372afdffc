"""The sampling thread, over counters that can be made to fail."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from metering.counter import CounterInfo, EnergyReading
from metering.errors import CounterReadError
from metering.fault import CounterFault
from metering.sampler import Sampler

WAIT_SECONDS = 5.0
PERIOD_SECONDS = 0.005
Sink = Callable[[int, EnergyReading], None]


class TickingCounter:
    """Rises by one at every read, and fails at the reads it was told to."""

    def __init__(self, *failing_reads: int, error: Exception | None = None) -> None:
        self.info = CounterInfo(
            "fake:0",
            "gpu",
            "replay",
            measured=False,
            update_period_seconds=0.1,
            uncertainty_ratio=None,
            description="a counter for tests",
        )
        self.reads = 0
        self._failing_reads = failing_reads
        self._error = error or CounterReadError("no answer")

    def read(self) -> EnergyReading:
        self.reads += 1
        if self.reads in self._failing_reads:
            raise self._error
        return EnergyReading(float(self.reads), self.reads)

    def close(self) -> None:
        pass


class Collector:
    """A sink that keeps what it was given and can be waited for."""

    def __init__(self) -> None:
        self.readings: list[tuple[int, int]] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, index: int, reading: EnergyReading) -> None:
        with self._changed:
            self.readings.append((index, reading.energy_microjoules))
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.readings) >= count, WAIT_SECONDS)


def sample(counters: list[TickingCounter], sink: Sink, until: Callable[[], None]) -> Sampler:
    sampler = Sampler(counters, sink, period_seconds=PERIOD_SECONDS)
    sampler.start()
    try:
        until()
    finally:
        sampler.stop()
    return sampler


def test_read_once_gives_every_counter_to_the_sink() -> None:
    collector = Collector()
    Sampler([TickingCounter(), TickingCounter()], collector).read_once()
    assert collector.readings == [(0, 1), (1, 1)]
    assert collector.threads == {threading.current_thread().name}


def test_the_thread_samples_until_stopped() -> None:
    collector = Collector()
    counter = TickingCounter()
    sampler = sample([counter], collector, lambda: collector.wait_for(4))
    reads = counter.reads
    assert collector.readings == [(0, number) for number in range(1, reads + 1)]
    assert collector.threads == {"wattline-sampler"}
    assert sampler.failures == 0
    assert "wattline-sampler" not in {thread.name for thread in threading.enumerate()}


def test_stopping_is_harmless_before_the_start_and_twice() -> None:
    Sampler([], Collector()).stop()
    sample([TickingCounter()], Collector(), lambda: None).stop()


def test_a_lost_reading_is_counted_and_warned_of_once_per_outage(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    sampler = Sampler([TickingCounter(2, 3, 5), TickingCounter()], collector)
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            sampler.read_once()
    assert sampler.failures == 3
    assert [reading for index, reading in collector.readings if index == 0] == [1, 4, 6]
    assert len([index for index, _ in collector.readings if index == 1]) == 6
    assert [record.getMessage() for record in caplog.records] == [
        "energy reading lost: device=fake:0 component=gpu source=replay reason=no answer"
    ] * 2


def test_an_unexpected_error_is_logged_with_its_traceback_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    collector = Collector()
    faulty = TickingCounter(2, 3, error=ZeroDivisionError("broken adapter"))
    sampler = sample([faulty, TickingCounter()], collector, lambda: collector.wait_for(12))
    assert sampler.failures == 2
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert len([index for index, _ in collector.readings if index == 1]) >= 6


def test_a_sink_that_fails_does_not_end_the_thread() -> None:
    collector = Collector()

    def sink(index: int, reading: EnergyReading) -> None:
        collector(index, reading)
        if reading.energy_microjoules == 1:
            message = "broken sink"
            raise ValueError(message)

    sampler = sample([TickingCounter()], sink, lambda: collector.wait_for(3))
    assert sampler.failures == 1


def test_what_the_sink_raises_reaches_the_caller_of_read_once() -> None:
    def sink(_index: int, _reading: EnergyReading) -> None:
        message = "broken sink"
        raise ValueError(message)

    with pytest.raises(ValueError, match="broken sink"):
        Sampler([TickingCounter()], sink).read_once()


def test_the_schedule_does_not_drift_by_what_a_reading_costs() -> None:
    """Each pass waits for half a period inside the sink; passes must still start one period apart."""
    period_seconds, passes = 0.02, 8
    arrived: list[float] = []
    enough, never = threading.Event(), threading.Event()

    def sink(_index: int, _reading: EnergyReading) -> None:
        arrived.append(time.monotonic())
        never.wait(period_seconds / 2)
        if len(arrived) == passes + 1:
            enough.set()

    sampler = Sampler([TickingCounter()], sink, period_seconds=period_seconds)
    sampler.start()
    assert enough.wait(WAIT_SECONDS)
    sampler.stop()
    phases = [(at - arrived[0]) / period_seconds for at in arrived]
    on_the_grid = [phase for phase in phases if abs(phase - round(phase)) < 0.25]
    assert len(on_the_grid) > passes / 2


class Mortal:
    """A look at the clock that ends the thread which takes it, until it has been told not to."""

    def __init__(self) -> None:
        self.is_deadly = False

    def __call__(self) -> float:
        if self.is_deadly:
            raise SystemExit
        return 0.0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_started_again_and_the_gap_is_told() -> None:
    told: list[tuple[CounterFault, float]] = []
    collector, slept = Collector(), Mortal()
    sampler = Sampler(
        [TickingCounter()],
        collector,
        lambda fault, seconds: told.append((fault, seconds)),
        PERIOD_SECONDS,
        slept,
    )
    sampler.revive()  # never started: nothing to do
    slept.is_deadly = True
    sampler.start()
    sampler._thread.join(WAIT_SECONDS)
    assert not sampler._thread.is_alive()
    slept.is_deadly = False
    sampler.revive()
    sampler.revive()
    collector.wait_for(2)
    sampler.stop()
    assert told == [(CounterFault.SAMPLER, 0.0)]
    sampler.revive()  # stopped on purpose: stays so
    assert not sampler._thread.is_alive()


def test_time_the_machine_slept_through_is_told_before_the_next_reading() -> None:
    order: list[object] = []
    enough = threading.Event()
    slept = iter([100.0, 100.0, 100.2, 3700.2])

    def sink(_index: int, _reading: EnergyReading) -> None:
        order.append("reading")
        if len(order) == 5:
            enough.set()

    sampler = Sampler(
        [TickingCounter()],
        sink,
        lambda fault, seconds: order.append((fault, round(seconds))),
        PERIOD_SECONDS,
        lambda: next(slept, 3700.2),
    )
    sampler.start()
    assert enough.wait(WAIT_SECONDS)
    sampler.stop()
    assert order[:5] == ["reading", "reading", (CounterFault.SUSPENDED, 3600), "reading", "reading"]


def test_a_reading_that_raises_anything_at_all_does_not_keep_the_others_from_being_read() -> None:
    class Deadly(TickingCounter):
        def read(self) -> EnergyReading:
            raise SystemExit

    collector = Collector()
    sampler = Sampler([Deadly(), TickingCounter()], collector, period_seconds=PERIOD_SECONDS)
    sampler.start()
    collector.wait_for(3)
    sampler.stop()
    assert {index for index, _ in collector.readings} == {1}
    assert sampler.failures >= 3


def test_stopping_does_not_wait_for_a_reading_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.sampler.STOP_SECONDS", 0.05)
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_index: int, _reading: EnergyReading) -> None:
        hangs.set()
        goes_on.wait(WAIT_SECONDS)

    sampler = Sampler([TickingCounter()], hang, period_seconds=PERIOD_SECONDS)
    sampler.start()
    assert hangs.wait(WAIT_SECONDS)
    sampler.stop()
    assert sampler._thread.is_alive()
    goes_on.set()
    sampler._thread.join(WAIT_SECONDS)


def test_a_kernel_without_a_boot_clock_never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    collector = Collector()
    Sampler([TickingCounter()], collector).read_once()
    assert len(collector.readings) == 1
