"""The CPU estimate over an invented process table, and over a real process that burns CPU."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import CounterReadError, MeterSettingError, SourceUnavailableError
from metering.sources.estimate import (
    DESCENDANTS_PERIOD_SECONDS,
    IDLE_WATTS_KEY,
    MAX_WATTS_KEY,
    TICKS_PER_SECOND,
    EstimateCoefficients,
    ProcessEstimateCounter,
)

ROOT_PID = 100
IDLE_WATTS, MAX_WATTS, VCPUS = 1.0, 3.0, 4
READ_LIMIT_SECONDS = 250e-6


class ProcessTable:
    """A folder that looks like /proc, and the two clocks of its machine; the root started at boot second 40."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now_seconds = 1000.0
        self.boot_seconds = 50.0
        (directory / "self").mkdir()
        (directory / "uptime").write_text("50.00 90.00\n")

    def set(self, pid: int, cpu_seconds: float, parent: int = 1, started_at: float = 40.0, state: str = "S") -> None:
        user_ticks = round(cpu_seconds * TICKS_PER_SECOND) // 2
        system_ticks = round(cpu_seconds * TICKS_PER_SECOND) - user_ticks
        reaped = "777777 777777"  # what it waited for already counts under the children's own numbers
        start_ticks = round(started_at * TICKS_PER_SECOND)
        fields = (
            f"{state} {parent} 1 1 0 -1 4194560 9 0 0 0 {user_ticks} {system_ticks} {reaped} 20 0 1 0 {start_ticks}"
        )
        (self.directory / str(pid)).mkdir(exist_ok=True)
        (self.directory / str(pid) / "stat").write_text(f"{pid} (a name) S 1 (x) {fields} 123456 789 0 0\n")

    def end(self, pid: int) -> None:
        (self.directory / str(pid) / "stat").unlink()
        (self.directory / str(pid)).rmdir()

    def advance(self, seconds: float) -> None:
        self.now_seconds += seconds
        self.boot_seconds += seconds

    def counter(self, root_pid: int = ROOT_PID) -> ProcessEstimateCounter:
        return ProcessEstimateCounter(
            lambda: self.now_seconds,
            root_pid,
            IDLE_WATTS,
            MAX_WATTS,
            VCPUS,
            proc_directory=self.directory,
            boot_clock=lambda: self.boot_seconds,
        )


@pytest.fixture
def table(tmp_path: Path) -> ProcessTable:
    table = ProcessTable(tmp_path)
    table.set(1, cpu_seconds=5.0, parent=0, started_at=0.0)
    table.set(ROOT_PID, cpu_seconds=2.0)
    return table


def joules(counter: ProcessEstimateCounter) -> float:
    return counter.read().energy_microjoules / 1e6


def test_energy_counts_from_the_start_of_the_process(table: ProcessTable) -> None:
    assert joules(table.counter()) == pytest.approx(10 * IDLE_WATTS * VCPUS + 2.0 * (MAX_WATTS - IDLE_WATTS))


def test_a_fully_used_machine_draws_its_maximum(table: ProcessTable) -> None:
    counter = table.counter()
    before = joules(counter)
    table.advance(3.0)
    table.set(ROOT_PID, cpu_seconds=2.0 + 3.0 * VCPUS)
    assert joules(counter) - before == pytest.approx(3.0 * MAX_WATTS * VCPUS)


def test_descendants_count_and_strangers_do_not(table: ProcessTable) -> None:
    alone = joules(table.counter())
    table.set(101, cpu_seconds=1.0, parent=ROOT_PID)
    table.set(102, cpu_seconds=0.5, parent=101)
    table.set(200, cpu_seconds=50.0, parent=1)
    assert joules(table.counter()) - alone == pytest.approx(1.5 * (MAX_WATTS - IDLE_WATTS))


def test_a_child_found_late_brings_all_its_cpu_time(table: ProcessTable) -> None:
    counter = table.counter()
    before = joules(counter)
    table.set(101, cpu_seconds=1.0, parent=ROOT_PID)
    assert joules(counter) == before
    table.advance(DESCENDANTS_PERIOD_SECONDS)
    idle_joules = DESCENDANTS_PERIOD_SECONDS * IDLE_WATTS * VCPUS
    assert joules(counter) - before == pytest.approx(idle_joules + 1.0 * (MAX_WATTS - IDLE_WATTS))


def test_a_child_that_ends_keeps_its_last_cpu_seconds(table: ProcessTable) -> None:
    table.set(101, cpu_seconds=1.0, parent=ROOT_PID)
    counter = table.counter()
    before = joules(counter)
    table.end(101)
    assert joules(counter) == before


def test_orphans_of_a_child_that_ended_stay_counted(table: ProcessTable) -> None:
    table.set(101, cpu_seconds=1.0, parent=ROOT_PID)
    table.set(102, cpu_seconds=1.0, parent=101)
    counter = table.counter()
    before = joules(counter)
    table.end(101)
    table.set(102, cpu_seconds=1.5, parent=1)
    table.set(103, cpu_seconds=0.5, parent=102)
    table.advance(DESCENDANTS_PERIOD_SECONDS)
    idle_joules = DESCENDANTS_PERIOD_SECONDS * IDLE_WATTS * VCPUS
    assert joules(counter) - before == pytest.approx(idle_joules + 1.0 * (MAX_WATTS - IDLE_WATTS))


def test_a_process_number_used_again_is_another_process(table: ProcessTable) -> None:
    table.set(101, cpu_seconds=1.0, parent=ROOT_PID)
    counter = table.counter()
    before = joules(counter)
    table.set(101, cpu_seconds=30.0, parent=1, started_at=49.0)
    assert joules(counter) == before


@pytest.mark.parametrize("state", ["Z", "X", None])
def test_the_root_process_ending_is_a_read_error(table: ProcessTable, state: str | None) -> None:
    counter = table.counter()
    counter.read()
    if state is None:
        table.end(ROOT_PID)
    else:
        table.set(ROOT_PID, cpu_seconds=2.0, state=state)
    with pytest.raises(CounterReadError, match="process 100 has ended"):
        counter.read()


def test_a_missing_root_process_is_unavailable(table: ProcessTable) -> None:
    with pytest.raises(SourceUnavailableError, match="process 4242"):
        table.counter(root_pid=4242)


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from([101, 102, 103]), st.floats(0, 9), st.booleans()), max_size=30
    )
)
def test_energy_never_falls_whatever_processes_do(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, int, float, bool]]
) -> None:
    table = ProcessTable(tmp_path_factory.mktemp("proc"))
    table.set(ROOT_PID, cpu_seconds=0.0)
    counter = table.counter()
    last = counter.read()
    for seconds, pid, cpu_seconds, alive in steps:
        table.advance(seconds)
        if alive:
            table.set(pid, cpu_seconds, parent=ROOT_PID)
        elif (table.directory / str(pid)).exists():
            table.end(pid)
        reading = counter.read()
        assert reading.energy_microjoules >= last.energy_microjoules
        last = reading


# A process whose child burns 0.2 CPU seconds, says so, and lives until its input ends. The kernel tells user and system
# time of each in whole ticks of 10 ms, so that up to 40 ms of it are not told.
CHILD = """
import time
while time.process_time() < 0.2:
    pass
print("burnt", flush=True)
input()
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


def test_a_real_child_that_burns_cpu_is_charged_and_stays_charged() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert parent.stdout.readline() == "burnt\n"
        counter = ProcessEstimateCounter(time.monotonic, parent.pid, 1e-9, 1.0, vcpus=1)
        both_cpu_seconds = joules(counter)
        parent.stdin.close()
        while (Path("/proc") / str(parent.pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
            with suppress(CounterReadError):
                assert joules(counter) >= both_cpu_seconds
    assert 0.15 <= both_cpu_seconds < 1.5


def test_a_real_process_is_charged_from_its_start_for_what_the_kernel_says_it_used() -> None:
    counter = ProcessEstimateCounter(time.monotonic, os.getpid(), 1e-6, 1_000.0)
    reading = counter.read()
    times = os.times()
    own_joules = (times.user + times.system) * 1_000
    assert reading.energy_microjoules / 1e6 == pytest.approx(own_joules, rel=0.1, abs=50)


def test_a_real_read_is_cheap_enough_for_twenty_a_second() -> None:
    counter = ProcessEstimateCounter(time.monotonic, os.getpid())
    counter.read()
    costs_seconds = []
    for _ in range(200):
        began_at = time.perf_counter()
        counter.read()
        costs_seconds.append(time.perf_counter() - began_at)
    assert median(costs_seconds) < READ_LIMIT_SECONDS


def test_coefficients_come_from_the_environment_or_the_cited_defaults() -> None:
    assert EstimateCoefficients.from_environ({}) == EstimateCoefficients(0.74, 3.5)
    assert EstimateCoefficients.from_environ({IDLE_WATTS_KEY: "1", MAX_WATTS_KEY: "2.5"}) == EstimateCoefficients(
        1, 2.5
    )


@pytest.mark.parametrize("key", [IDLE_WATTS_KEY, MAX_WATTS_KEY])
@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "inf", "3,5", "much"])
def test_a_wrong_coefficient_names_key_value_and_what_was_expected(key: str, value: str) -> None:
    with pytest.raises(MeterSettingError) as raised:
        EstimateCoefficients.from_environ({key: value})
    message = str(raised.value)
    assert key in message
    assert repr(value) in message
    assert "expected watts per vCPU, a positive number" in message


def test_a_maximum_below_idle_is_refused() -> None:
    with pytest.raises(MeterSettingError, match=f"{MAX_WATTS_KEY} is 0.5: expected at least {IDLE_WATTS_KEY}"):
        EstimateCoefficients.from_environ({MAX_WATTS_KEY: "0.5"})
