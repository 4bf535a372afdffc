"""What every `EnergyCounter` must do, over every implementation there is.

NVML's run in a process of their own, where the stand-in driver can be found; the laws are the same functions.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metering.counter import CounterInfo, EnergyCounter, EnergyReading
from metering.errors import CounterReadError
from metering.sources.estimate import ProcessEstimateCounter
from metering.sources.nvml import open_nvml_counters
from metering.sources.replay import load_replay
from tests.nvml_stand_in import NvmlStandIn

Law = Callable[[EnergyCounter], None]


class FakeCounter:
    """The counter other tests use: 100 W from its making on."""

    def __init__(self) -> None:
        self.info = CounterInfo(
            "fake:0",
            "gpu",
            "replay",
            measured=False,
            update_period_seconds=0.1,
            uncertainty_ratio=None,
            description="100 W, invented",
        )
        self._started_at_seconds = time.monotonic()
        self._closed = False

    def read(self) -> EnergyReading:
        if self._closed:
            message = "closed"
            raise CounterReadError(message)
        now = time.monotonic()
        return EnergyReading(now, int((now - self._started_at_seconds) * 100_000_000))

    def close(self) -> None:
        self._closed = True


def energy_never_falls(counter: EnergyCounter) -> None:
    readings = [counter.read() for _ in range(50)]
    energies = [reading.energy_microjoules for reading in readings]
    assert energies == sorted(energies)
    assert energies[0] >= 0


def instants_are_on_the_clock_it_was_given(counter: EnergyCounter) -> None:
    before = time.monotonic()
    readings = [counter.read() for _ in range(5)]
    instants = [before, *(reading.at_seconds for reading in readings), time.monotonic()]
    assert instants == sorted(instants)


def energy_is_whole_microjoules(counter: EnergyCounter) -> None:
    assert type(counter.read().energy_microjoules) is int


def info_is_complete_and_constant(counter: EnergyCounter) -> None:
    info = counter.info
    counter.read()
    assert counter.info == info
    assert info.component in {"gpu", "cpu", "dram"}
    assert info.source in {"nvml", "rapl", "estimate", "replay"}
    assert info.measured == (info.source in {"nvml", "rapl"})
    assert 0 < info.update_period_seconds <= 1
    assert info.uncertainty_ratio is None or 0 < info.uncertainty_ratio < 1
    assert info.device
    assert info.description


def closing_twice_is_harmless_and_reading_then_is_an_error(counter: EnergyCounter) -> None:
    counter.close()
    counter.close()
    with pytest.raises(CounterReadError, match="closed"):
        counter.read()


LAWS: list[Law] = [
    energy_never_falls,
    instants_are_on_the_clock_it_was_given,
    energy_is_whole_microjoules,
    info_is_complete_and_constant,
    closing_twice_is_harmless_and_reading_then_is_an_error,
]
LAW_NAMES = [law.__name__ for law in LAWS]


def check_nvml(expected_class: str) -> None:
    """Hold the first GPU's counter to every law; runs where the stand-in is loaded."""
    for law in LAWS:
        counter, *_ = open_nvml_counters(time.monotonic, None)
        assert type(counter).__name__ == expected_class
        law(counter)
        counter.close()


@pytest.mark.parametrize("law", LAWS, ids=LAW_NAMES)
def test_estimate(law: Law) -> None:
    law(ProcessEstimateCounter(time.monotonic, os.getpid()))


@pytest.mark.parametrize("law", LAWS, ids=LAW_NAMES)
def test_replay(law: Law, tmp_path: Path) -> None:
    recording = tmp_path / "recording.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,5\n0.0001,gpu,105\n0.0002,gpu,1005\n")
    (counter,) = load_replay(recording, time.monotonic)
    law(counter)


@pytest.mark.parametrize("law", LAWS, ids=LAW_NAMES)
def test_fake(law: Law) -> None:
    law(FakeCounter())


@pytest.mark.parametrize(
    ("gpu", "expected_class"), [("energy=0", "NvmlCounter"), ("energy=3", "PowerIntegratingCounter")]
)
def test_nvml(tmp_path: Path, gpu: str, expected_class: str) -> None:
    code = f"from tests.contract.test_energy_counter import check_nvml\ncheck_nvml({expected_class!r})\ntell('kept')"
    assert NvmlStandIn(tmp_path).run(f"power_watts=300 period_seconds=0.001 {gpu}", code=code) == "kept"
