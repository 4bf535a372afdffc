"""Choosing a meter, with and without a driver, and what the machine report says of it."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from metering.choice import Refusal, choose_counters
from metering.errors import MeterSettingError, SourceUnavailableError
from metering.report import describe_machine, format_report, to_json_dict
from metering.sources.estimate import IDLE_WATTS_KEY, MAX_WATTS_KEY
from tests.nvml_stand_in import PREAMBLE, NvmlStandIn, run_python

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
CHOOSE = """
from metering.choice import choose_counters
from metering.errors import MeteringError
try:
    choice = choose_counters(SETTING, time.monotonic, os.getpid(), os.environ)
    tell([choice.source, [c.info.device for c in choice.counters], [[r.source, r.reason] for r in choice.refused]])
except MeteringError as problem:
    tell([type(problem).__name__, str(problem)])
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> NvmlStandIn:
    return NvmlStandIn(tmp_path_factory.mktemp("nvml"))


def choose(setting: str) -> str:
    return CHOOSE.replace("SETTING", repr(setting))


def without_driver(directory: Path, setting: str) -> Any:
    """Choose where loading the driver's library fails, whatever this machine has."""
    (directory / "libnvidia-ml.so.1").write_bytes(b"")
    return run_python(PREAMBLE + choose(setting), directory, {})


@pytest.mark.parametrize("setting", ["auto", "nvml"])
def test_gpus_are_measured_where_a_driver_answers(nvml: NvmlStandIn, setting: str) -> None:
    gpus = ("uuid=GPU-aa", "uuid=GPU-bb", "uuid=GPU-cc")
    assert nvml.run(*gpus, code=choose(setting), CUDA_VISIBLE_DEVICES="2,0") == ["nvml", ["GPU-cc", "GPU-aa"], []]


def test_auto_estimates_without_a_driver_and_says_why(tmp_path: Path) -> None:
    source, (device,), refused = without_driver(tmp_path, "auto")
    assert source == "estimate"
    assert device.startswith("process:")
    assert refused == [["nvml", "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"]]


def test_nvml_without_a_driver_is_unavailable(tmp_path: Path) -> None:
    reason = "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"
    assert without_driver(tmp_path, "nvml") == ["SourceUnavailableError", reason]


@pytest.mark.parametrize("gpu", ["library init=9", "mig=1", ""])
def test_auto_estimates_where_no_gpu_can_be_measured(nvml: NvmlStandIn, gpu: str) -> None:
    source, _, ((refused, reason),) = nvml.run(gpu, code=choose("auto"))
    assert (source, refused) == ("estimate", "nvml")
    assert reason


def test_auto_estimates_where_cuda_may_use_no_gpu(nvml: NvmlStandIn) -> None:
    source, _, refused = nvml.run("uuid=GPU-aa", code=choose("auto"), CUDA_VISIBLE_DEVICES="")
    assert source == "estimate"
    assert refused == [["nvml", "CUDA_VISIBLE_DEVICES='' hides every one of the 1 GPU(s)"]]


def test_the_estimate_follows_the_process_it_was_given() -> None:
    choice = choose_counters("estimate", time.monotonic, os.getpid(), {})
    (counter,) = choice.counters
    assert (choice.source, choice.refused) == ("estimate", ())
    assert counter.info.device == f"process:{os.getpid()}"
    assert not counter.info.measured


def test_the_estimates_coefficients_are_checked_when_it_is_chosen() -> None:
    with pytest.raises(MeterSettingError, match=IDLE_WATTS_KEY):
        choose_counters("auto", time.monotonic, os.getpid(), {**NO_GPU, IDLE_WATTS_KEY: "cold"})


def test_no_process_to_estimate_leaves_nothing_and_gives_both_reasons() -> None:
    no_pid = 2**22 + 1  # above the kernel's largest process number
    with pytest.raises(SourceUnavailableError, match=r"nvml: .*; estimate: .*no such process"):
        choose_counters("auto", time.monotonic, no_pid, NO_GPU)


def test_a_recording_is_opened_by_name(tmp_path: Path) -> None:
    recording = tmp_path / "day.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n1,gpu,5\n0,dram,0\n1,dram,5\n")
    choice = choose_counters(f"replay:{recording}", time.monotonic, os.getpid(), {})
    assert choice.source == "replay"
    assert [counter.info.component for counter in choice.counters] == ["gpu", "dram"]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("rapl", "not available in this version"),
        ("replay:", "file name after the colon"),
        ("replay:/nowhere.csv", "/nowhere.csv"),
        ("NVML", "expected auto, nvml, estimate or replay:FILE"),
        ("", "expected auto, nvml, estimate or replay:FILE"),
    ],
)
def test_a_setting_that_means_nothing_stops_with_what_was_expected(setting: str, why: str) -> None:
    with pytest.raises(MeterSettingError, match=why):
        choose_counters(setting, time.monotonic, os.getpid(), {})


class StandingClock:
    """Time that passes only while something waits for it."""

    def __init__(self) -> None:
        self.now_seconds = 0.0

    def __call__(self) -> float:
        return self.now_seconds

    def wait(self, seconds: float) -> None:
        self.now_seconds += seconds


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
    environ = {**NO_GPU, IDLE_WATTS_KEY: "1.25", MAX_WATTS_KEY: "6"}
    report = describe_machine("auto", environ, time.monotonic, 0.01)
    (refusal,) = report.refused
    assert isinstance(refusal, Refusal)
    assert refusal.source == "nvml"
    text = format_report(report)
    assert "Energy source: estimate (not measured; meter set to auto)" in text
    assert "covers the engine's processes only" in text
    assert "1.25 W idle to 6 W busy" in text
    assert refusal.reason in text
    assert json.loads(json.dumps(to_json_dict(report)))["measured"] is False


def test_a_gpu_that_stops_answering_has_no_power_and_a_reason(nvml: NvmlStandIn) -> None:
    code = """
from metering.report import describe_machine, format_report, to_json_dict
report = describe_machine("nvml", os.environ, time.monotonic, 0.1, wait=lambda _: gpus("uuid=GPU-aa", "energy=15"))
tell([to_json_dict(report), format_report(report)])
"""
    report, text = nvml.run("uuid=GPU-aa", "", "uuid=GPU-bb", code=code)
    assert report["power_watts"] == {"gpu": None}
    assert report["devices"][1]["power_watts"] is None
    assert "GPU is lost" in report["devices"][1]["reason"]
    assert "gpu: unknown" in text
