"""Sources behind the real zeus library, over stand-ins for what it talks to: AMD SMI, zeusd, and Apple's monitor."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.errors import CounterReadError, SourceUnavailableError
from metering.sources.zeus import load_zeus
from metering.sources.zeusd import ONE_LOOK_SECONDS, open_zeusd_counters
from tests.amdsmi_stand_in import AmdsmiStandIn
from tests.zeusd_stand_in import ZeusdStandIn

pytest.importorskip("zeus", reason="the zeus library, an optional extra, is not installed")

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED = 2, 10, 34
OPEN_AMD = """
from metering.errors import CounterReadError, SourceUnavailableError
from metering.sources.amdsmi import open_amdsmi_counters
try:
    counters = open_amdsmi_counters(time.monotonic, os.environ).counters
except SourceUnavailableError as problem:
    tell(str(problem))
    sys.exit()
"""
AMD_DEVICES = OPEN_AMD + "tell([counter.info.device for counter in counters])"


class Clock:
    def __init__(self) -> None:
        self.now_seconds = 100.0

    def __call__(self) -> float:
        return self.now_seconds


# -- AMD -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def amd(tmp_path_factory: pytest.TempPathFactory) -> AmdsmiStandIn:
    return AmdsmiStandIn(tmp_path_factory.mktemp("rocm"))


def test_amd_energy_is_the_accumulator_in_its_own_unit(amd: AmdsmiStandIn) -> None:
    code = OPEN_AMD + (
        "first = counters[0].read(); time.sleep(0.1); last = counters[0].read()\n"
        "tell([last.at_seconds - first.at_seconds, last.energy_microjoules - first.energy_microjoules])"
    )
    seconds, microjoules = amd.run("power_watts=250", code=code)
    assert microjoules / 1e6 == pytest.approx(250 * seconds, rel=0.02)


def test_what_an_amd_counter_says_of_itself(amd: AmdsmiStandIn) -> None:
    code = OPEN_AMD + (
        "info = counters[0].info\n"
        "tell([info.device, info.component, info.source, info.measured, info.uncertainty_ratio, info.description])"
    )
    *facts, description = amd.run("name=MI300X", code=code)
    assert facts == ["amdgpu:0", "gpu", "amdsmi", True, None]
    assert "MI300X (HIP index 0)" in description
    assert "through zeus" in description


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({}, ["amdgpu:0", "amdgpu:1", "amdgpu:2"]),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, ["amdgpu:2", "amdgpu:0"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["amdgpu:1"]),
    ],
)
def test_visible_amd_gpus_are_those_hip_shows(
    amd: AmdsmiStandIn, variables: dict[str, str], devices: list[str]
) -> None:
    assert amd.run("hip=2", "hip=0", "hip=1", code=AMD_DEVICES, **variables) == devices


@pytest.mark.parametrize("key", ["ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"])
def test_numbering_that_the_library_does_not_follow_is_refused(amd: AmdsmiStandIn, key: str) -> None:
    reason = amd.run("", "hip=0", code=AMD_DEVICES, **{key: "0"})
    assert reason.startswith(f"{key} is set")
    assert "HIP_VISIBLE_DEVICES" in reason


def test_the_two_gpus_of_a_board_are_counted_once(amd: AmdsmiStandIn) -> None:
    gpus = ("name=MI250X hip=0 power_watts=300", "name=MI250X hip=1 power_watts=0")
    assert amd.run(*gpus, code=AMD_DEVICES) == ["amdgpu:0"]


@pytest.mark.parametrize("visible", ["0", "1"])
def test_half_a_board_is_refused_because_its_counter_shows_both(amd: AmdsmiStandIn, visible: str) -> None:
    gpus = ("name=MI250X hip=0 power_watts=300", "name=MI250X hip=1 power_watts=0")
    reason = amd.run(*gpus, code=AMD_DEVICES, HIP_VISIBLE_DEVICES=visible)
    assert reason.startswith(f"GPU {visible} is one of two on a board with one counter, and the other is not visible")


def test_one_counter_that_cannot_be_true_refuses_the_whole_group(amd: AmdsmiStandIn) -> None:
    reason = amd.run("hip=0", "hip=1 power_watts=1 shown_watts=300", code=AMD_DEVICES)
    assert reason.startswith("the energy counter of GPU 1 (MI300X) does not agree with its power")


@pytest.mark.parametrize(
    ("gpu", "variables", "why"),
    [
        (f"energy={NOT_SUPPORTED}", {}, "NOT_SUPPORTED"),
        (f"energy={NO_PERMISSION}", {}, "Permission Denied"),
        ("hip=0", {"HIP_VISIBLE_DEVICES": "GPU-1234"}, "invalid literal"),
        ("hip=0", {"HIP_VISIBLE_DEVICES": "7"}, "HIP index 7 not found"),
        ("hip=0", {"HIP_VISIBLE_DEVICES": ""}, "is set but empty"),
        ("library init=0", {}, "shows no GPU"),
        (f"library init={DRIVER_NOT_LOADED}", {}, "no AMD GPU management here"),
    ],
)
def test_amd_gpus_that_cannot_be_measured_are_refused_with_the_reason(
    amd: AmdsmiStandIn, gpu: str, variables: dict[str, str], why: str
) -> None:
    assert why in amd.run(gpu, code=AMD_DEVICES, **variables)


def test_without_amds_library_nobody_is_told_to_install_it_but_those_who_ask(amd: AmdsmiStandIn) -> None:
    code = "import logging\nlogging.basicConfig(stream=sys.stdout)\n" + AMD_DEVICES + "\n"
    ended = subprocess.run(
        [sys.executable, "-c", f"import json, os, sys, time\ntell = lambda a: print(json.dumps(a))\n{code}"],
        env={**os.environ, "ROCM_PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    (line,) = ended.stdout.splitlines()
    assert "no AMD GPU management here" in line
    assert "amd-smi-lib" in line


def test_an_amd_read_that_fails_is_lost_and_the_counter_comes_back(amd: AmdsmiStandIn) -> None:
    code = (
        OPEN_AMD
        + """
gpus("energy=8")
try:
    counters[0].read()
except CounterReadError as problem:
    answer = str(problem)
gpus("energy=0")
tell([answer, counters[0].read().energy_microjoules > 0])
"""
    )
    reason, came_back = amd.run("energy=0", code=code)
    assert reason.startswith("reading the energy of amdgpu:0 failed: ")
    assert came_back


# -- zeusd ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ZeusdStandIn]:
    with ZeusdStandIn(tmp_path) as zeusd:
        yield zeusd


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    """Two packages, as the kernel shows them."""
    for cpu, package in enumerate(("0", "0", "1", "1")):
        directory = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        (directory / "physical_package_id").write_text(f"{package}\n")
        (directory / "die_id").write_text("0\n")
    return tmp_path / "cpu"


def settings(daemon: ZeusdStandIn) -> dict[str, str]:
    return {"ZEUSD_SOCK_PATH": str(daemon.socket)}


def zeusd_refusal(environ: dict[str, str], topology: Path) -> str:
    with pytest.raises(SourceUnavailableError) as refused:
        open_zeusd_counters(time.monotonic, environ, topology)
    return str(refused.value)


def test_packages_and_memory_are_read_through_the_daemon(daemon: ZeusdStandIn, topology: Path) -> None:
    daemon.energies = {0: (7_000_001, 2_000_000), 1: (9_000_000, None)}
    counters = open_zeusd_counters(Clock(), settings(daemon), topology).counters
    energies = {counter.info.device: counter.read().energy_microjoules for counter in counters}
    assert energies == {"zeusd:cpu-0": 7_000_001, "zeusd:cpu-1": 9_000_000, "zeusd:dram-0": 2_000_000}
    assert [counter.info.component for counter in counters] == ["cpu", "cpu", "dram"]
    assert {(counter.info.source, counter.info.measured) for counter in counters} == {("zeusd", True)}
    for counter in counters:
        counter.close()


def test_counters_read_together_ask_once_and_never_get_an_answer_twice(daemon: ZeusdStandIn, topology: Path) -> None:
    daemon.energies = {0: (1, 1), 1: (1, 1)}
    clock = Clock()
    counters = open_zeusd_counters(clock, settings(daemon), topology).counters
    for passed in range(1, 4):
        clock.now_seconds += 0.05
        daemon.energies = {0: (passed, passed), 1: (passed, passed)}
        daemon.requests.clear()
        assert [counter.read().energy_microjoules for counter in counters] == [passed] * 4
        assert len(daemon.requests) == 1
    daemon.requests.clear()
    for _ in range(3):
        counters[0].read()
    assert len(daemon.requests) == 3
    clock.now_seconds += 2 * ONE_LOOK_SECONDS
    assert counters[1].read().at_seconds == clock.now_seconds
    for counter in counters:
        counter.close()


@pytest.mark.parametrize("fault", ["status", "gone", "null"])
def test_a_daemon_that_fails_is_a_lost_reading(daemon: ZeusdStandIn, topology: Path, fault: str) -> None:
    daemon.energies = {0: (1, None), 1: (1, None)}
    clock = Clock()
    counter, other = open_zeusd_counters(clock, settings(daemon), topology).counters
    clock.now_seconds += 1
    if fault == "status":
        daemon.status = 500
    elif fault == "gone":
        daemon.energies = {1: (1, None)}
    else:
        daemon.energies = {0: (None, None), 1: (1, None)}
    with pytest.raises(CounterReadError, match="reading the energy of zeusd:cpu-0 failed"):
        counter.read()
    daemon.status, daemon.energies = 200, {0: (5, None), 1: (1, None)}
    clock.now_seconds += 1
    assert counter.read().energy_microjoules == 5
    counter.close()
    assert other.read().energy_microjoules == 1
    other.close()


def test_a_daemon_that_stops_is_a_lost_reading(daemon: ZeusdStandIn, topology: Path) -> None:
    daemon.energies = {0: (1, None), 1: (1, None)}
    clock = Clock()
    counters = open_zeusd_counters(clock, settings(daemon), topology).counters
    daemon.stop()
    for counter in counters:
        counter.close()
        with pytest.raises(CounterReadError, match="closed"):
            counter.read()
    assert "does not answer" in zeusd_refusal(settings(daemon), topology)


def test_zones_that_may_contain_each_other_are_refused(daemon: ZeusdStandIn, topology: Path) -> None:
    daemon.energies = {0: (1, None), 1: (1, None), 2: (3, None)}
    reason = zeusd_refusal(settings(daemon), topology)
    assert "shows 3 CPU zone(s) where this machine has 2" in reason
    assert "--meter rapl" in reason


def test_a_machine_that_does_not_tell_its_packages_is_no_refusal(daemon: ZeusdStandIn, tmp_path: Path) -> None:
    (counter, memory) = open_zeusd_counters(Clock(), settings(daemon), tmp_path / "nowhere").counters
    counter.close()
    memory.close()


def test_a_daemon_without_packages_or_rights_is_refused(daemon: ZeusdStandIn, topology: Path) -> None:
    daemon.energies = {}
    assert "shows no CPU package" in zeusd_refusal(settings(daemon), topology)
    daemon.energies = {0: (1, None), 1: (1, None)}
    daemon.enabled_api_groups = ["gpu-read"]
    assert "API group 'cpu-read' is not enabled" in zeusd_refusal(settings(daemon), topology)
    daemon.enabled_api_groups, daemon.auth_required = ["cpu-read"], True
    assert "requires authentication" in zeusd_refusal(settings(daemon), topology)


@pytest.mark.parametrize("host", ["10.0.0.7:4938", "example.org:4938", "[2001:db8::1]:4938", "4938"])
def test_another_machines_daemon_is_refused(topology: Path, host: str) -> None:
    reason = zeusd_refusal({"ZEUSD_HOST_PORT": host}, topology)
    assert reason.startswith(f"ZEUSD_HOST_PORT is {host!r}, which may be another machine's zeusd")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "localhost:9", "[::1]:9"])
def test_this_machines_daemon_is_asked_and_missed(topology: Path, host: str) -> None:
    assert "does not answer" in zeusd_refusal({"ZEUSD_HOST_PORT": host}, topology)


def test_without_a_socket_named_there_is_no_daemon(topology: Path) -> None:
    assert zeusd_refusal({}, topology).startswith("ZEUSD_SOCK_PATH is not set")


# -- Apple, and the library itself ---------------------------------------------------------------------------------

APPLE_MONITOR = """
class AppleEnergyMetrics:
    cpu_total_mj, gpu_mj, dram_mj = 1500, 2500, DRAM
    efficiency_cores_mj = performance_cores_mj = efficiency_cluster_mj = performance_cluster_mj = None
    efficiency_core_manager_mj = performance_core_manager_mj = gpu_sram_mj = ane_mj = None

class AppleEnergyMonitor:
    def get_cumulative_energy(self):
        return AppleEnergyMetrics()
"""
APPLE = """
import json, platform, sys, time
from metering.errors import SourceUnavailableError
from metering.sources.apple import open_apple_counters
import zeus.device.soc
sys.platform, platform.processor = "darwin", lambda: "arm"
try:
    counters = open_apple_counters(time.monotonic, sys.platform).counters
    print(json.dumps({c.info.device: [c.info.source, c.read().energy_microjoules] for c in counters}))
except SourceUnavailableError as problem:
    print(json.dumps(str(problem)))
"""


def on_apple(directory: Path, monitor: str | None) -> str:
    """Run where the library finds this in place of Apple's monitor, and takes the machine for one of Apple's."""
    if monitor is not None:
        (directory / "zeus_apple_silicon.py").write_text(monitor)
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", APPLE],
        env={**os.environ, "PYTHONPATH": f"{directory}:{Path(__file__).parents[3]}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return ended.stdout.strip()


def test_apples_components_are_counted_apart(tmp_path: Path) -> None:
    assert on_apple(tmp_path, APPLE_MONITOR.replace("DRAM", "700")) == (
        '{"apple:gpu": ["apple", 2500000], "apple:cpu": ["apple", 1500000], "apple:dram": ["apple", 700000]}'
    )


def test_what_apple_does_not_count_is_left_out(tmp_path: Path) -> None:
    assert "dram" not in on_apple(tmp_path, APPLE_MONITOR.replace("DRAM", "None"))


def test_an_apple_machine_without_the_monitor_is_refused(tmp_path: Path) -> None:
    reason = on_apple(tmp_path, None)
    assert "the Apple processor cannot be measured" in reason
    assert "pip install wattline[zeus]" in reason


def test_a_library_that_is_not_installed_says_how_to_install_it() -> None:
    code = """
import sys
from metering.sources.zeus import ZeusNotInstalledError, load_zeus
sys.modules["zeus"] = None
try:
    load_zeus("zeus.utils.zeusd", "zeusd")
except ZeusNotInstalledError as problem:
    print(problem)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout.strip() == (
        "the zeus library, which reads zeusd, is not installed; to mend it: pip install wattline[zeus]"
    )


@pytest.mark.parametrize(("body", "why"), [("import no_such_package_zz", "no_such_package_zz"), ("1 / 0", "division")])
def test_a_library_that_does_not_load_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, why: str
) -> None:
    (tmp_path / "broken_zeus_module.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SourceUnavailableError, match=why):
        load_zeus("broken_zeus_module", "nothing")
