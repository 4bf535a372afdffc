"""What `wattline meter` says: what was chosen, what was refused and how to mend it, and the watts."""

import json
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from metering.report import (
    MeterReport,
    describe_choice,
    describe_machine,
    describe_refusals,
    format_power_line,
    format_report,
    to_json_dict,
    watch_machine,
)
from metering.sources.estimate import IDLE_WATTS_KEY, MAX_WATTS_KEY
from tests.nvml_stand_in import NvmlStandIn
from tests.powercap_tree import PowercapTree

NO_SENSOR = {"WATTLINE_RAPL_ROOT": "/nowhere", "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> NvmlStandIn:
    return NvmlStandIn(tmp_path_factory.mktemp("nvml"))


class StandingClock:
    """Time that passes only while something waits for it."""

    def __init__(self) -> None:
        self.now_seconds = 0.0

    def __call__(self) -> float:
        return self.now_seconds

    def wait(self, seconds: float) -> None:
        self.now_seconds += seconds


class Package(StandingClock):
    """A host whose first package draws `watts` while something waits, and whose second draws 10."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.tree = PowercapTree(directory)
        self.environ = {**NO_SENSOR, "WATTLINE_RAPL_ROOT": str(self.tree.root)}
        self.watts = 50

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        for zone, watts in (
            ("intel-rapl:0", self.watts),
            ("intel-rapl:1", 10),
            ("intel-rapl:0:2", 3),
            ("intel-rapl:1:0", 3),
        ):
            self.tree.set(zone, self.tree.get(zone) + round(watts * seconds * 1e6))


def test_the_report_gives_live_watts_per_component(tmp_path: Path) -> None:
    recording = tmp_path / "day.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n9,gpu,900000000\n0,cpu,7\n9,cpu,7\n")
    clock = StandingClock()
    report = describe_machine(f"replay:{recording}", {}, clock, 2.0, wait=clock.wait)
    assert to_json_dict(report)["power_watts"] == {"gpu": pytest.approx(100.0), "cpu": 0.0}
    assert "gpu: 100.00 W" in format_report(report)
    assert not report.notes
    assert clock.now_seconds == pytest.approx(2.0)


def test_the_report_of_an_estimate_says_what_it_covers_and_its_coefficients() -> None:
    environ = {**NO_SENSOR, IDLE_WATTS_KEY: "1.25", MAX_WATTS_KEY: "6"}
    report = describe_machine("auto", environ, time.monotonic, 0.01)
    text = format_report(report)
    assert "Energy source: estimate (not measured; meter set to auto)" in text
    assert "covers the engine's processes only" in text
    assert "1.25 W idle to 6 W busy" in text
    assert json.loads(json.dumps(to_json_dict(report)))["measured"] is False


def test_every_refusal_has_its_reason_and_its_remedies_one_to_a_line() -> None:
    report = describe_machine("auto", NO_SENSOR, time.monotonic, 0.01)
    lines = describe_refusals(report)
    assert "  rapl: no RAPL energy counters in /nowhere; virtual machines rarely have any" in lines
    assert any(line.startswith("    - on a real x86 machine load the kernel's driver") for line in lines)
    (rapl,) = [refusal for refusal in to_json_dict(report)["refused"] if refusal["source"] == "rapl"]
    assert rapl["reason"] == "no RAPL energy counters in /nowhere; virtual machines rarely have any"
    assert len(rapl["remedies"]) == 2


def test_sockets_are_summed_and_the_whole_host_is_said_to_be_in_it(tmp_path: Path) -> None:
    host = Package(tmp_path)
    report = describe_machine("auto", host.environ, host, wait=host.wait)
    assert (report.source, report.measured) == ("rapl", True)
    assert to_json_dict(report)["power_watts"] == {"cpu": pytest.approx(60), "dram": pytest.approx(6)}
    assert "  cpu: 60.00 W (rapl:package-0 50.00 W, rapl:package-1 10.00 W)" in format_report(report).splitlines()
    assert "WATTLINE_ENGINES_ON_HOST" in format_report(report)


def test_watching_reports_one_interval_after_the_other_from_the_same_counters(tmp_path: Path) -> None:
    host = Package(tmp_path)
    reports: list[MeterReport] = []
    with closing(watch_machine("rapl", host.environ, host, wait=host.wait)) as endless:
        for report, host.watts in zip(endless, (100, 200, 0), strict=False):
            reports.append(report)
    assert [to_json_dict(report)["power_watts"]["cpu"] for report in reports] == pytest.approx([60, 110, 210])
    assert [report.at_seconds for report in reports] == pytest.approx([1, 2, 3])
    assert format_power_line(reports[1]) == "     2 s   cpu 110.00 W   dram 6.00 W"
    assert describe_choice(reports[0])[0] == "Energy source: rapl (measured; meter set to rapl)"


def test_a_register_that_wraps_while_it_is_watched_shows_in_no_line(tmp_path: Path) -> None:
    host = Package(tmp_path)
    host.tree.set("intel-rapl:1", 262_143_328_850 - 5_000_000)
    with closing(watch_machine("rapl", host.environ, host, wait=host.wait)) as endless:
        before = next(endless)
        host.tree.set("intel-rapl:1", host.tree.get("intel-rapl:1") - 262_143_328_850 + 5_000_000)
        assert [to_json_dict(report)["power_watts"]["cpu"] for report in islice(endless, 1)] == pytest.approx(
            [65], abs=0.1
        )
    assert to_json_dict(before)["power_watts"]["cpu"] == pytest.approx(60)


def test_the_counters_are_closed_when_nobody_watches_any_more(nvml: NvmlStandIn) -> None:
    code = """
import pynvml
from contextlib import closing
from metering.report import watch_machine
with closing(watch_machine("nvml", os.environ, time.monotonic, 0.05, wait=lambda _: None)) as reports:
    source = next(reports).source
try:
    pynvml.nvmlDeviceGetCount()
except pynvml.NVMLError as problem:
    tell([source, str(problem)])
"""
    assert nvml.run("uuid=GPU-aa", code=code) == ["nvml", "Uninitialized"]


def test_a_counter_that_stands_still_has_no_power_and_a_reason(tmp_path: Path) -> None:
    host = StandingClock()
    environ = {**NO_SENSOR, "WATTLINE_RAPL_ROOT": str(PowercapTree(tmp_path, "amd").root)}
    report = describe_machine("rapl", environ, host, wait=host.wait)
    assert to_json_dict(report)["power_watts"] == {"cpu": None}
    assert "cpu: unknown" in format_report(report)
    assert "no power of rapl:package-0: the counter answers, but it stands still" in format_report(report)


def test_a_measurement_too_short_for_the_counter_has_no_power_and_a_reason(nvml: NvmlStandIn) -> None:
    code = """
from metering.report import describe_machine, to_json_dict
tell(to_json_dict(describe_machine("nvml", os.environ, time.monotonic, 0.001, wait=lambda _: None))["devices"])
"""
    (device,) = nvml.run("period_seconds=1000", code=code)
    assert device["power_watts"] is None
    assert device["reason"] == "the counter answers, but it has not been refreshed yet"


def test_a_gpu_that_stops_answering_has_no_power_and_a_reason(nvml: NvmlStandIn) -> None:
    code = """
from metering.report import describe_machine, format_power_line, format_report, to_json_dict
report = describe_machine("nvml", os.environ, time.monotonic, 0.1, wait=lambda _: gpus("uuid=GPU-aa", "energy=15"))
tell([to_json_dict(report), format_report(report), format_power_line(report)])
"""
    report, text, line = nvml.run("uuid=GPU-aa", "", "uuid=GPU-bb", code=code)
    assert report["power_watts"] == {"gpu": None}
    assert report["devices"][1]["power_watts"] is None
    assert "GPU is lost" in report["devices"][1]["reason"]
    assert "gpu: unknown" in text
    assert "GPU is lost" in text
    assert "gpu unknown" in line
    assert "GPU is lost" in line
