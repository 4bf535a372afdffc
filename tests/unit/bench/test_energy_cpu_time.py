"""CPU time is counted for whole engines and for nothing else, and an engine that is stopped takes none of it back.

The folder holds a front end (100) with two engines: sessions 200 (1,650 ticks) and 300 (600); 400 and 500 are others.
"""

import os
import shutil
from pathlib import Path

import pytest

from bench.energy.cpu_time import CpuWatch, engine_sockets

PROC = Path(__file__).parents[2] / "data" / "proc" / "front_end_with_engines"
FRONT_END = 100
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
FIRST_ENGINE_TICKS, SECOND_ENGINE_TICKS = 1650, 600


def seconds(ticks: int) -> float:
    return ticks / TICKS_PER_SECOND


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(PROC, tmp_path / "proc"))


def set_user_ticks(proc: Path, pid: int, ticks: int) -> None:
    head, _, rest = (proc / str(pid) / "stat").read_text().rpartition(")")
    fields = rest.split()
    fields[11] = str(ticks)
    (proc / str(pid) / "stat").write_text(f"{head}) {' '.join(fields)}\n")


def test_engines_are_whole_sessions_with_the_children_they_have_reaped() -> None:
    assert CpuWatch(FRONT_END, PROC).read().engines == seconds(FIRST_ENGINE_TICKS + SECOND_ENGINE_TICKS)


def test_the_front_end_is_its_own_process_without_the_engines_it_has_reaped() -> None:
    assert CpuWatch(FRONT_END, PROC).read().front_end == seconds(200)


def test_the_machine_is_all_that_is_not_idle() -> None:
    assert CpuWatch(FRONT_END, PROC).read().machine == seconds(20000 + 500 + 3000 + 30 + 70 + 400)


def test_an_engine_that_is_stopped_counts_with_its_last_reading(proc: Path) -> None:
    watch = CpuWatch(FRONT_END, proc)
    before = watch.read()
    for pid in (300, 301):
        shutil.rmtree(proc / str(pid))
    set_user_ticks(proc, 202, 1050)
    assert (watch.read() - before).engines == pytest.approx(seconds(50))


def test_an_engine_that_loses_a_process_before_its_end_takes_nothing_back(proc: Path) -> None:
    watch = CpuWatch(FRONT_END, proc)
    before = watch.read()
    shutil.rmtree(proc / "202")
    assert (watch.read() - before).engines == 0


def test_an_engine_that_is_started_again_under_the_same_process_id_counts_beside_the_old_one(proc: Path) -> None:
    watch = CpuWatch(FRONT_END, proc)
    before = watch.read()
    shutil.rmtree(proc / "301")
    stat = (proc / "300" / "stat").read_text()
    (proc / "300" / "stat").write_text(stat.replace(" 1020 ", " 9999 "))
    assert (watch.read() - before).engines == pytest.approx(seconds(10))


def test_a_front_end_that_has_ended_keeps_its_time(proc: Path) -> None:
    watch = CpuWatch(FRONT_END, proc)
    before = watch.read()
    shutil.rmtree(proc / "100")
    assert (watch.read() - before).front_end == 0


def test_the_sockets_are_those_of_the_front_end_s_own_engines() -> None:
    assert engine_sockets(FRONT_END, PROC) == [Path("/tmp/a/engine.sock"), Path("/tmp/b/engine.sock")]
