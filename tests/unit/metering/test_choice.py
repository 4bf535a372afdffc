"""Choosing counters: what is best on which machine, what must not be counted together, and what is said of the rest."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metering.choice import choose_counters
from metering.errors import MeterSettingError, SourceUnavailableError
from metering.sources.estimate import IDLE_WATTS_KEY
from tests.amdsmi_stand_in import AmdsmiStandIn
from tests.nvml_stand_in import PREAMBLE, NvmlStandIn, run_python
from tests.powercap_tree import PowercapTree, run_python_unprivileged
from tests.zeusd_stand_in import ZeusdStandIn

NOWHERE = {"WATTLINE_RAPL_ROOT": "/nowhere", "HIP_VISIBLE_DEVICES": ""}
"""A host without RAPL or AMD GPUs, whatever this machine has."""
NO_SENSOR = {**NOWHERE, "CUDA_VISIBLE_DEVICES": ""}
CHOOSE = """
import json, os, time
from metering.choice import choose_counters
from metering.errors import MeteringError
try:
    choice = choose_counters(SETTING, time.monotonic, os.getpid(), os.environ, with_gpus=GPUS)
    answer = [choice.source, [c.info.device for c in choice.counters], {r.source: r.reason for r in choice.refused}]
except MeteringError as problem:
    answer = [type(problem).__name__, str(problem)]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> NvmlStandIn:
    return NvmlStandIn(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def rapl(tmp_path: Path) -> PowercapTree:
    return PowercapTree(tmp_path)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ZeusdStandIn]:
    pytest.importorskip("zeus", reason="the zeus library, an optional extra, is not installed")
    with ZeusdStandIn(tmp_path) as zeusd:
        yield zeusd


def choose(setting: str, *, with_gpus: bool = True) -> str:
    return CHOOSE.replace("SETTING", repr(setting)).replace("GPUS", repr(with_gpus))


def without_driver(directory: Path, setting: str, **environment: str) -> Any:
    """Choose where loading NVIDIA's library fails, whatever this machine has."""
    (directory / "libnvidia-ml.so.1").write_bytes(b"")
    return run_python(PREAMBLE + choose(setting), directory, {**NOWHERE, **environment})


PACKAGES = ["rapl:package-0", "rapl:package-1", "rapl:package-0:dram", "rapl:package-1:dram"]


# -- what is best ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["auto", "nvml"])
def test_gpus_are_measured_where_a_driver_answers(nvml: NvmlStandIn, setting: str) -> None:
    gpus = ("uuid=GPU-aa", "uuid=GPU-bb", "uuid=GPU-cc")
    source, devices, refused = nvml.run(*gpus, code=choose(setting), **{**NOWHERE, "CUDA_VISIBLE_DEVICES": "2,0"})
    assert (source, devices) == ("nvml", ["GPU-cc", "GPU-aa"])
    assert set(refused) == ({"rapl", "zeusd"} if setting == "auto" else set())


@pytest.mark.parametrize("setting", ["auto", "nvml+rapl"])
def test_gpus_and_the_host_are_measured_together(nvml: NvmlStandIn, rapl: PowercapTree, setting: str) -> None:
    source, devices, refused = nvml.run("uuid=GPU-aa", code=choose(setting), WATTLINE_RAPL_ROOT=str(rapl.root))
    assert (source, devices, refused) == ("nvml+rapl", ["GPU-aa", *PACKAGES], {})


@pytest.mark.parametrize("setting", ["auto", "rapl"])
def test_without_a_gpu_the_host_is_measured(tmp_path: Path, rapl: PowercapTree, setting: str) -> None:
    source, devices, refused = without_driver(tmp_path, setting, WATTLINE_RAPL_ROOT=str(rapl.root))
    assert (source, devices) == ("rapl", PACKAGES)
    assert ("nvml" in refused) == (setting == "auto")


def test_an_engine_on_the_cpu_is_not_measured_by_gpus(nvml: NvmlStandIn, rapl: PowercapTree) -> None:
    code = choose("auto", with_gpus=False)
    source, devices, refused = nvml.run("uuid=GPU-aa", code=code, WATTLINE_RAPL_ROOT=str(rapl.root))
    assert (source, devices, refused) == ("rapl", PACKAGES, {})


def test_without_any_sensor_auto_estimates_and_says_why(tmp_path: Path) -> None:
    source, (device,), refused = without_driver(tmp_path, "auto")
    assert source == "estimate"
    assert device.startswith("process:")
    assert refused["nvml"] == "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"
    assert refused["rapl"] == "no RAPL energy counters in /nowhere; virtual machines rarely have any"
    assert refused["zeusd"] == "ZEUSD_SOCK_PATH is not set"


@pytest.mark.parametrize("gpu", ["library init=9", "mig=1", ""])
def test_auto_estimates_where_no_gpu_can_be_measured(nvml: NvmlStandIn, gpu: str) -> None:
    source, _, refused = nvml.run(gpu, code=choose("auto"), **NOWHERE)
    assert source == "estimate"
    assert refused["nvml"]


def test_auto_estimates_where_cuda_may_use_no_gpu(nvml: NvmlStandIn) -> None:
    source, _, refused = nvml.run("uuid=GPU-aa", code=choose("auto"), **NO_SENSOR)
    assert source == "estimate"
    assert refused["nvml"] == "CUDA_VISIBLE_DEVICES='' hides every one of the 1 GPU(s)"


def test_one_gpu_that_cannot_be_measured_refuses_the_group_and_not_the_host(
    nvml: NvmlStandIn, rapl: PowercapTree
) -> None:
    gpus = ("uuid=GPU-aa", "uuid=GPU-bb energy=3 power=3")
    source, devices, refused = nvml.run(*gpus, code=choose("auto"), WATTLINE_RAPL_ROOT=str(rapl.root))
    assert (source, devices) == ("rapl", PACKAGES)
    assert refused["nvml"].startswith("GPU GPU-bb (Stand-In) cannot be measured")


def test_memory_that_cannot_be_read_is_refused_and_the_packages_stay(nvml: NvmlStandIn, rapl: PowercapTree) -> None:
    rapl.forbid("intel-rapl:0:2")
    source, devices, refused = run_python_unprivileged(choose("rapl"), WATTLINE_RAPL_ROOT=str(rapl.root))
    assert (source, devices) == ("rapl", ["rapl:package-0", "rapl:package-1"])
    assert "intel-rapl:0:2/energy_uj: Permission denied" in refused["rapl"]


def test_an_unreadable_tree_leaves_the_gpus_and_says_why(nvml: NvmlStandIn, rapl: PowercapTree) -> None:
    rapl.forbid("intel-rapl:0")
    reason = run_python_unprivileged(choose("auto"), **{**NO_SENSOR, "WATTLINE_RAPL_ROOT": str(rapl.root)})[2]["rapl"]
    assert reason.endswith("Permission denied; since CVE-2020-8694 only root may")


# -- through zeus ----------------------------------------------------------------------------------------------------


def test_amd_gpus_and_the_host_are_measured_together(
    tmp_path_factory: pytest.TempPathFactory, rapl: PowercapTree
) -> None:
    pytest.importorskip("zeus", reason="the zeus library, an optional extra, is not installed")
    amd = AmdsmiStandIn(tmp_path_factory.mktemp("rocm"))
    (amd.rocm_path / "libnvidia-ml.so.1").write_bytes(b"")
    environ = {"WATTLINE_RAPL_ROOT": str(rapl.root), "LD_LIBRARY_PATH": str(amd.rocm_path)}
    source, devices, refused = amd.run("hip=0", code=choose("auto"), **environ)
    assert (source, devices) == ("amdsmi+rapl", ["amdgpu:0", *PACKAGES])
    assert list(refused) == ["nvml"]
    assert amd.run("hip=0", code=choose("zeus"), **NOWHERE | {"HIP_VISIBLE_DEVICES": "0"})[0] == "amdsmi"


@pytest.mark.parametrize("setting", ["auto", "zeus"])
def test_where_only_root_may_read_the_daemon_is_asked(
    tmp_path: Path, rapl: PowercapTree, daemon: ZeusdStandIn, setting: str
) -> None:
    rapl.forbid("intel-rapl:0")
    environ = {**NO_SENSOR, "WATTLINE_RAPL_ROOT": str(rapl.root), "ZEUSD_SOCK_PATH": str(daemon.socket)}
    source, devices, refused = run_python_unprivileged(choose(setting), **environ)
    assert (source, devices) == ("zeusd", ["zeusd:cpu-0", "zeusd:dram-0"])
    assert ("rapl" in refused) == (setting == "auto")


def test_without_the_library_it_is_named_once(tmp_path: Path) -> None:
    code = f"import sys\nsys.modules['zeus'] = None\n{choose('auto')}"
    environ = {**NO_SENSOR, "ZEUSD_SOCK_PATH": "/nowhere.sock"}
    source, _, refused = run_python(PREAMBLE + code, tmp_path, environ)
    assert (source, list(refused)) == ("estimate", ["nvml", "zeus", "rapl"])
    assert refused["zeus"].endswith("is not installed")


def test_asking_for_zeus_without_it_says_how_to_install_it(tmp_path: Path) -> None:
    code = f"import sys\nsys.modules['zeus'] = None\n{choose('zeus')}"
    kind, reason = run_python(PREAMBLE + code, tmp_path, NO_SENSOR)
    assert kind == "SourceUnavailableError"
    assert "pip install wattline[zeus]" in reason


# -- what must not be counted together ---------------------------------------------------------------------------------


def test_engines_that_share_a_host_measure_their_gpus_only(nvml: NvmlStandIn, rapl: PowercapTree) -> None:
    environ = {"WATTLINE_RAPL_ROOT": str(rapl.root), "WATTLINE_ENGINES_ON_HOST": "2"}
    source, devices, refused = nvml.run("uuid=GPU-aa", code=choose("auto"), **environ)
    assert (source, devices) == ("nvml", ["GPU-aa"])
    for source in ("rapl", "zeusd"):
        assert refused[source].startswith(f"{source} shows the whole host, and 2 engines share this one")


@pytest.mark.parametrize("setting", ["rapl", "nvml+rapl", "zeus"])
def test_asking_for_the_host_where_engines_share_it_is_an_error(
    nvml: NvmlStandIn, rapl: PowercapTree, setting: str
) -> None:
    environ = {**NOWHERE, "WATTLINE_RAPL_ROOT": str(rapl.root), "WATTLINE_ENGINES_ON_HOST": "3"}
    kind, reason = nvml.run("uuid=GPU-aa", code=choose(setting), **environ)
    assert kind == "SourceUnavailableError"
    assert "3 engines share this one" in reason
    assert "WATTLINE_ENGINES_ON_HOST=3" in reason


def test_what_was_opened_before_a_refusal_is_closed(nvml: NvmlStandIn) -> None:
    code = choose("nvml+rapl") + (
        "import pynvml\ntry:\n    pynvml.nvmlDeviceGetCount()\n"
        "except pynvml.NVMLError as problem:\n    tell([answer[0], str(problem)])"
    )
    assert nvml.run("uuid=GPU-aa", code=code, **NOWHERE) == ["SourceUnavailableError", "Uninitialized"]


@pytest.mark.parametrize("engines", ["0", "-1", "many", "1.5", ""])
def test_a_number_of_engines_that_is_none_stops(engines: str) -> None:
    with pytest.raises(MeterSettingError, match="WATTLINE_ENGINES_ON_HOST"):
        choose_counters("auto", time.monotonic, os.getpid(), {"WATTLINE_ENGINES_ON_HOST": engines})


# -- explicit settings -----------------------------------------------------------------------------------------------


def test_nvml_without_a_driver_is_unavailable(tmp_path: Path) -> None:
    kind, reason = without_driver(tmp_path, "nvml")
    assert kind == "SourceUnavailableError"
    assert reason.startswith("no NVIDIA driver library (libnvidia-ml.so.1) on this machine")


def test_the_estimate_follows_the_process_it_was_given() -> None:
    choice = choose_counters("estimate", time.monotonic, os.getpid(), {})
    (counter,) = choice.counters
    assert (choice.source, choice.refused) == ("estimate", ())
    assert counter.info.device == f"process:{os.getpid()}"
    assert not counter.info.measured


def test_the_estimates_coefficients_are_checked_when_it_is_chosen() -> None:
    with pytest.raises(MeterSettingError, match=IDLE_WATTS_KEY):
        choose_counters("auto", time.monotonic, os.getpid(), {**NO_SENSOR, IDLE_WATTS_KEY: "cold"})


def test_no_process_to_estimate_leaves_nothing_and_gives_every_reason() -> None:
    no_pid = 2**22 + 1  # above the kernel's largest process number
    with pytest.raises(SourceUnavailableError, match=r"nvml: .*; rapl: .*; estimate: .*no such process"):
        choose_counters("auto", time.monotonic, no_pid, NO_SENSOR)


def test_a_recording_is_opened_by_name(tmp_path: Path) -> None:
    recording = tmp_path / "day.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n1,gpu,5\n0,dram,0\n1,dram,5\n")
    choice = choose_counters(f"replay:{recording}", time.monotonic, os.getpid(), {})
    assert choice.source == "replay"
    assert [counter.info.component for counter in choice.counters] == ["gpu", "dram"]


EXPECTED = "expected auto, nvml, rapl, nvml\\+rapl, zeus, estimate or replay:FILE"


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("replay:", "file name after the colon"),
        ("replay:/nowhere.csv", "/nowhere.csv"),
        ("NVML", EXPECTED),
        ("rapl+nvml", EXPECTED),
        ("amdsmi", EXPECTED),
        ("", EXPECTED),
    ],
)
def test_a_setting_that_means_nothing_stops_with_what_was_expected(setting: str, why: str) -> None:
    with pytest.raises(MeterSettingError, match=why):
        choose_counters(setting, time.monotonic, os.getpid(), {})


@pytest.mark.skipif(sys.platform == "darwin", reason="this is an Apple machine")
def test_apples_counters_are_not_looked_for_elsewhere(tmp_path: Path) -> None:
    assert "apple" not in without_driver(tmp_path, "auto")[2]
