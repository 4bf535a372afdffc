from pathlib import Path

from workers.guardian import session_processes


def put(proc: Path, pid: int, name: str, state: str, session_id: int) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) {state} 1 {session_id} {session_id} 0 -1 0\n")


def test_a_session_is_everyone_in_it_but_its_leader_and_the_dead(tmp_path: Path) -> None:
    put(tmp_path, 10, "guardian", "S", 10)
    put(tmp_path, 11, "python", "R", 10)
    put(tmp_path, 12, "name ) S 1 (10", "S", 10)
    put(tmp_path, 13, "zombie", "Z", 10)
    put(tmp_path, 20, "elsewhere", "S", 20)
    (tmp_path / "meminfo").touch()
    (tmp_path / "14").mkdir()  # ended while we looked
    assert sorted(session_processes(10, tmp_path)) == [11, 12]
