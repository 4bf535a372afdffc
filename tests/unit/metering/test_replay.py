"""Playing back a recorded counter, and refusing what is no recording."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import MeterSettingError
from metering.sources.replay import ReplayCounter, load_replay

HEADER = "seconds,component,energy_microjoules\n"


class Clock:
    """Time that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now_seconds = 500.0

    def __call__(self) -> float:
        return self.now_seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def record(directory: Path, rows: str) -> Path:
    path = directory / "recording.csv"
    path.write_text(HEADER + rows)
    return path


def test_energy_is_linear_between_rows_and_flat_after_the_end(tmp_path: Path, clock: Clock) -> None:
    (counter,) = load_replay(record(tmp_path, "0,gpu,100\n2,gpu,300\n3,gpu,1000\n"), clock)
    energies = []
    for clock.now_seconds in (500.0, 501.0, 502.0, 502.5, 503.0, 900.0):
        reading = counter.read()
        assert reading.at_seconds == clock.now_seconds
        energies.append(reading.energy_microjoules)
    assert energies == [100, 200, 300, 650, 1000, 1000]


def test_components_play_together_from_the_earliest_row(tmp_path: Path, clock: Clock) -> None:
    rows = "70,gpu,0\n71,cpu,50\n\n72,gpu,2000\n73,cpu,250\n"
    gpu, cpu = load_replay(record(tmp_path, rows), clock)
    assert (gpu.info.component, cpu.info.component) == ("gpu", "cpu")
    clock.now_seconds += 1
    assert (gpu.read().energy_microjoules, cpu.read().energy_microjoules) == (1000, 50)
    clock.now_seconds += 1
    assert (gpu.read().energy_microjoules, cpu.read().energy_microjoules) == (2000, 150)


def test_a_recording_is_never_called_measured(tmp_path: Path, clock: Clock) -> None:
    (counter,) = load_replay(record(tmp_path, "0,gpu,0\n1,gpu,1\n2,gpu,2\n"), clock)
    assert (counter.info.source, counter.info.measured) == ("replay", False)
    assert counter.info.update_period_seconds == 1.0
    assert counter.info.uncertainty_ratio is None


@pytest.mark.parametrize(
    ("rows", "line", "why"),
    [
        ("0,gpu,0\n1,tpu,5\n", 3, "expected one of gpu, cpu, dram"),
        ("0,gpu,0\none,gpu,5\n", 3, "expected a number of seconds"),
        ("0,gpu,0\n1,gpu,5.5\n", 3, "whole microjoules"),
        ("0,gpu,0\n1,gpu\n", 3, "expected a number of seconds"),
        ("0,gpu,0\n1,gpu,5,6\n", 3, "expected a number of seconds"),
        ("nan,gpu,0\n", 2, "expected finite seconds"),
        ("0,gpu,-1\n", 2, "energy of at least 0"),
        ("0,gpu,9\n\n1,gpu,8\n", 4, "no less energy"),
        ("1,gpu,8\n1,gpu,9\n", 3, "expected later seconds"),
        ('0,gpu,0\n"1,gpu,1\n', 3, "unexpected end of data"),
        ("0,gpu,0\n", 3, "expected at least 2 rows"),
        ("", 1, "expected at least 2 rows"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, clock: Clock, rows: str, line: int, why: str) -> None:
    path = record(tmp_path, rows)
    with pytest.raises(MeterSettingError) as raised:
        load_replay(path, clock)
    message = str(raised.value)
    assert message.startswith(f"the recording {path}, line {line}: ")
    assert why in message


def test_a_missing_header_is_named(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "recording.csv"
    path.write_text("0,gpu,0\n1,gpu,1\n")
    with pytest.raises(MeterSettingError, match="line 1: expected the header seconds,component,energy_microjoules"):
        load_replay(path, clock)


@pytest.mark.parametrize("contents", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, clock: Clock, contents: bytes | None) -> None:
    path = tmp_path / "recording.csv"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(MeterSettingError, match=r"recording\.csv cannot be read"):
        load_replay(path, clock)


@given(
    steps=st.lists(st.tuples(st.floats(0.001, 100), st.integers(0, 10**15)), min_size=1, max_size=20),
    looks=st.lists(st.floats(-1, 2500), min_size=2, max_size=50),
)
def test_energy_never_falls_and_stays_within_the_recording(steps: list[tuple[float, int]], looks: list[float]) -> None:
    rows = [(0.0, 0)]
    for seconds, microjoules in steps:
        rows.append((rows[-1][0] + seconds, rows[-1][1] + microjoules))
    clock = Clock()
    counter = ReplayCounter(clock, "gpu", rows)
    energies = []
    for look in sorted(looks):
        clock.now_seconds = 500.0 + look
        energies.append(counter.read().energy_microjoules)
    assert energies == sorted(energies)
    assert rows[0][1] <= energies[0]
    assert energies[-1] <= rows[-1][1]
