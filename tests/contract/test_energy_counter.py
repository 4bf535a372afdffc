"""What every `EnergyCounter` must do, over every implementation there is.

NVML's and AMD's run in processes of their own, where the stand-in drivers can be found; the laws are the same.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metering.counter import CounterInfo, EnergyCounter, EnergyReading
from metering.errors import CounterReadError
from metering.sources.amdsmi import open_amdsmi_counters
from metering.sources.estimate import ProcessEstimateCounter
from metering.sources.nvml import open_nvml_counters
from metering.sources.rapl import open_rapl_counters
from metering.sources.replay import load_replay
from metering.sources.zeusd import open_zeusd_counters
from tests.amdsmi_stand_in import AmdsmiStandIn
from tests.nvml_stand_in import NvmlStandIn
from tests.powercap_tree import PowercapTree
from tests.zeusd_stand_in import ZeusdStandIn

Law = Callable[[EnergyCounter], None]
HARDWARE = {"nvml", "rapl", "amdsmi", "zeusd", "apple"}


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
    assert info.source in {*HARDWARE, "estimate", "replay"}
    assert info.measured == (info.source in HARDWARE)
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


def check_amdsmi() -> None:
    """Hold the first AMD GPU's counter to every law; runs where the stand-in is loaded."""
    for law in LAWS:
        (counter,) = open_amdsmi_counters(time.monotonic, os.environ).counters
        law(counter)
        counter.close()


@pytest.mark.parametrize("position", [0, 2], ids=["package", "memory"])
@pytest.mark.parametrize("law", LAWS, ids=LAW_NAMES)
def test_rapl(law: Law, tmp_path: Path, position: int) -> None:
    tree = PowercapTree(tmp_path)

    class Rising:
        """A clock that also moves the counters, now and then beyond where they wrap."""

        def __call__(self) -> float:
            for zone in ("intel-rapl:0", "intel-rapl:0:2"):
                tree.set(zone, (tree.get(zone) + 7_000_000) % 65_532_610_987)
            return time.monotonic()

    law(open_rapl_counters(Rising(), tree.root).counters[position])


@pytest.mark.parametrize("law", LAWS, ids=LAW_NAMES)
def test_zeusd(law: Law, tmp_path: Path) -> None:
    pytest.importorskip("zeus", reason="the zeus library, an optional extra, is not installed")
    with ZeusdStandIn(tmp_path) as daemon:
        counters = open_zeusd_counters(time.monotonic, {"ZEUSD_SOCK_PATH": str(daemon.socket)}, tmp_path).counters
        law(counters[0])
        for counter in counters:
            counter.close()


def test_amdsmi(tmp_path: Path) -> None:
    pytest.importorskip("zeus", reason="the zeus library, an optional extra, is not installed")
    code = "from tests.contract.test_energy_counter import check_amdsmi\ncheck_amdsmi()\ntell('kept')"
    assert AmdsmiStandIn(tmp_path).run("power_watts=300", code=code) == "kept"


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
