"""RAPL over trees of files: which zones are counted, wrap-around, and what cannot be read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.counter import EnergyCounter
from metering.errors import CounterReadError, SourceUnavailableError
from metering.sources.powercap import PowerZone, find_zones, powercap_root
from metering.sources.rapl import PLAUSIBLE_WATTS, RaplCounter, open_rapl_counters
from tests.powercap_tree import USUAL_RANGE_MICROJOULES, PowercapTree, run_python_unprivileged

OPEN = """
import json, time
from pathlib import Path
from metering.errors import SourceUnavailableError
from metering.sources.rapl import open_rapl_counters
try:
    opened = open_rapl_counters(time.monotonic, Path(ROOT))
    print(json.dumps([[c.info.device for c in opened.counters], [str(p) for p in opened.left_out]]))
except SourceUnavailableError as problem:
    print(json.dumps(str(problem)))
"""
LONGEST_GAP_SECONDS = USUAL_RANGE_MICROJOULES / 1e6 / PLAUSIBLE_WATTS


class Clock:
    def __init__(self) -> None:
        self.now_seconds = 100.0

    def __call__(self) -> float:
        return self.now_seconds


class Register:
    """The counter of package-0, followed over time."""

    def __init__(self, directory: Path, first_microjoules: int) -> None:
        self.clock = Clock()
        self.tree = PowercapTree(directory)
        self.tree.set("intel-rapl:0", first_microjoules)
        self.counter: EnergyCounter = open_rapl_counters(self.clock, self.tree.root).counters[0]
        self.counter.read()

    def after(self, seconds: float, microjoules: int | str) -> int:
        self.clock.now_seconds += seconds
        self.tree.set("intel-rapl:0", microjoules)
        return self.counter.read().energy_microjoules


@pytest.fixture
def tree(tmp_path: Path) -> PowercapTree:
    return PowercapTree(tmp_path)


def counted(root: Path) -> list[tuple[str, str]]:
    return [(counter.info.component, counter.info.device) for counter in open_rapl_counters(Clock(), root).counters]


INTEL = [
    ("cpu", "rapl:package-0"),
    ("cpu", "rapl:package-1"),
    ("dram", "rapl:package-0:dram"),
    ("dram", "rapl:package-1:dram"),
]


def test_packages_and_memory_are_counted_and_neither_what_is_inside_nor_around_nor_the_duplicate(
    tree: PowercapTree,
) -> None:
    assert counted(tree.root) == INTEL


def test_the_trees_of_containers_count_the_same(tree: PowercapTree) -> None:
    assert counted(tree.devices) == INTEL
    assert counted(tree.devices / "intel-rapl") == INTEL


def test_amd_processors_use_the_same_tree(tmp_path: Path) -> None:
    assert counted(PowercapTree(tmp_path, "amd").root) == [("cpu", "rapl:package-0")]


def test_the_memory_mapped_interface_is_read_where_it_is_alone(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl-mmio" / "intel-rapl-mmio:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "262143328850")):
        (zone / name).write_text(text)
    assert counted(tmp_path) == [("cpu", "rapl:package-0")]


def test_every_die_of_a_package_and_nested_memory_is_counted(tree: PowercapTree) -> None:
    (tree.root / "intel-rapl:0" / "name").write_text("package-0-die-0")
    (tree.root / "intel-rapl:1" / "name").write_text("package-0-die-1")
    assert [device for _, device in counted(tree.root)] == [
        "rapl:package-0-die-0",
        "rapl:package-0-die-1",
        "rapl:package-0-die-0:dram",
        "rapl:package-0-die-1:dram",
    ]


def test_zones_are_listed_once_and_in_the_order_of_their_numbers(tree: PowercapTree) -> None:
    identifiers = [zone.identifier for zone in find_zones(tree.root)]
    assert identifiers == [f"intel-rapl:{n}" for n in ("0", "0:0", "0:1", "0:2", "1", "1:0", "2")]


def test_what_a_counter_says_of_itself(tree: PowercapTree) -> None:
    info = open_rapl_counters(Clock(), tree.root).counters[0].info
    assert (info.source, info.measured, info.uncertainty_ratio) == ("rapl", True, None)
    assert info.update_period_seconds == 0.001
    assert "intel-rapl:0" in info.description


def test_energy_is_what_the_register_rose_by(tmp_path: Path) -> None:
    register = Register(tmp_path, 1_000)
    assert register.after(0.05, 6_001_000) == 6_000_000
    assert register.after(0.05, 6_001_000) == 6_000_000
    assert register.after(0.05, 6_001_007) == 6_000_007


def test_a_wrap_between_two_reads_loses_nothing(tmp_path: Path) -> None:
    register = Register(tmp_path, USUAL_RANGE_MICROJOULES - 3_000_000)
    assert register.after(0.05, 2_000_000) == 5_000_000
    assert register.after(0.05, 4_000_000) == 7_000_000


@given(
    watts=st.lists(st.integers(1, int(PLAUSIBLE_WATTS)), min_size=1, max_size=60),
    first=st.integers(0, USUAL_RANGE_MICROJOULES - 1),
    seconds=st.floats(0.05, LONGEST_GAP_SECONDS * 0.99),
)
def test_a_register_that_wraps_any_number_of_times_is_continuous(
    tmp_path_factory: pytest.TempPathFactory, watts: list[int], first: int, seconds: float
) -> None:
    register = Register(tmp_path_factory.mktemp("rapl"), first)
    spent = 0
    for power_watts in watts:
        spent += int(power_watts * seconds * 1e6)
        assert register.after(seconds, (first + spent) % USUAL_RANGE_MICROJOULES) == spent


def test_wraps_that_cannot_be_counted_restart_the_sum_instead_of_inventing_joules(tmp_path: Path) -> None:
    register = Register(tmp_path, 1_000)
    assert register.after(1.0, 50_001_000) == 50_000_000
    assert register.after(LONGEST_GAP_SECONDS + 1, 90_001_000) == 0
    assert register.after(1.0, 100_001_000) == 10_000_000


def test_a_gap_too_short_for_a_second_wrap_is_bridged(tmp_path: Path) -> None:
    register = Register(tmp_path, 1_000)
    assert register.after(LONGEST_GAP_SECONDS - 1, 90_001_000) == 90_000_000


def test_a_fall_too_steep_for_a_wrap_is_a_reset(tmp_path: Path) -> None:
    register = Register(tmp_path, 1_000)
    assert register.after(1.0, 50_001_000) == 50_000_000
    assert register.after(1.0, 20_000) == 0
    assert register.after(1.0, 30_020_000) == 30_000_000


@pytest.mark.parametrize("content", ["", "-5", "12.5", "twelve", "\uff11\uff12"])
def test_a_counter_that_holds_no_number_is_a_lost_reading_and_comes_back(tmp_path: Path, content: str) -> None:
    register = Register(tmp_path, 1_000)
    with pytest.raises(CounterReadError, match="energy_uj"):
        register.after(0.05, content)
    assert register.after(0.05, 2_000) == 1_000


def test_a_counter_that_vanishes_is_a_lost_reading(tmp_path: Path) -> None:
    register = Register(tmp_path, 1_000)
    (register.tree.root / "intel-rapl:0").unlink()
    with pytest.raises(CounterReadError, match="No such file"):
        register.counter.read()


def test_an_unreadable_counter_says_how_to_grant_access(tree: PowercapTree) -> None:
    tree.forbid("intel-rapl:0")
    reason = run_python_unprivileged(OPEN.replace("ROOT", repr(str(tree.root))))
    assert reason.startswith(f"cannot read {tree.root}/intel-rapl:0/energy_uj: Permission denied")
    assert "\n" not in reason
    for way in (
        "CVE-2020-8694",
        "sudo chgrp GROUP /sys/class/powercap/intel-rapl:*/energy_uj",
        "sudo chmod g+r /sys/class/powercap/intel-rapl:*/energy_uj",
        'SUBSYSTEM=="powercap", ACTION=="add", KERNEL=="intel-rapl:*"',
        "setcap cap_dac_read_search=ep",
        "AmbientCapabilities=CAP_DAC_READ_SEARCH",
        "-v /sys/devices/virtual/powercap:/host/powercap:ro -e WATTLINE_RAPL_ROOT=/host/powercap",
        "ZEUSD_SOCK_PATH",
    ):
        assert way in reason


def test_one_unreadable_socket_refuses_all_because_the_rest_would_pass_for_the_whole(tree: PowercapTree) -> None:
    tree.forbid("intel-rapl:1")
    assert "intel-rapl:1/energy_uj: Permission denied" in run_python_unprivileged(
        OPEN.replace("ROOT", repr(str(tree.root)))
    )


def test_unreadable_memory_is_left_out_whole_and_the_packages_stay(tree: PowercapTree) -> None:
    tree.forbid("intel-rapl:1:0")
    devices, (reason,) = run_python_unprivileged(OPEN.replace("ROOT", repr(str(tree.root))))
    assert devices == ["rapl:package-0", "rapl:package-1"]
    assert "intel-rapl:1:0/energy_uj: Permission denied" in reason


def refusal(root: Path) -> str:
    with pytest.raises(SourceUnavailableError) as refused:
        open_rapl_counters(Clock(), root)
    return str(refused.value)


def test_a_machine_without_the_tree_is_told_what_may_be_missing(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        assert f"no RAPL energy counters in {root}; virtual machines rarely have any" in refusal(root)
        assert "modprobe intel_rapl_msr" in refusal(root)


def test_a_tree_that_docker_hides_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    reason = refusal(PowercapTree(tmp_path, "hidden").root)
    assert "intel-rapl:0 is listed, but what it points to is hidden from this process, as Docker hides it" in reason
    assert "-v /sys/devices/virtual/powercap:/host/powercap:ro" in reason


def test_a_tree_without_a_package_is_refused_with_what_it_has(tree: PowercapTree) -> None:
    for zone in ("intel-rapl:0", "intel-rapl:1"):
        (tree.root / zone / "name").write_text("psys")
    assert "counts no processor package, only psys, core, uncore, dram, psys, dram, psys" in refusal(tree.root)


@pytest.mark.parametrize("content", ["", "lots"])
def test_a_counter_that_does_not_say_where_it_wraps_is_refused(tree: PowercapTree, content: str) -> None:
    (tree.root / "intel-rapl:1" / "max_energy_range_uj").write_text(content)
    assert "max_energy_range_uj" in refusal(tree.root)


def test_the_root_is_a_setting_and_an_empty_one_is_none() -> None:
    assert powercap_root({"WATTLINE_RAPL_ROOT": "/host/powercap"}) == Path("/host/powercap")
    assert powercap_root({"WATTLINE_RAPL_ROOT": ""}) == powercap_root({}) == Path("/sys/class/powercap")


def test_the_time_of_a_reading_is_from_before_it(tree: PowercapTree) -> None:
    zone = PowerZone("intel-rapl:0", "package-0", tree.root / "intel-rapl:0")
    instants = iter([1.0, 2.0, 3.0, 9.0])
    counter = RaplCounter(zone, open_rapl_counters(Clock(), tree.root).counters[0].info, lambda: next(instants))
    assert [counter.read().at_seconds, counter.read().at_seconds] == [1.0, 2.0]
