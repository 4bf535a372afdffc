"""Runs one engine so that nothing of it outlives us: `python -m workers.guardian FOLDER -- COMMAND...`.

An engine is a tree of processes, and vLLM's engine core survives the death of its API server. The guardian leads a
session of its own, starts the command in it, and ends every process of that session when the command ends, when it is
told to (SIGTERM), or when its parent dies, even by SIGKILL; then it removes FOLDER, where its socket is. Standard
library only: it must be small and start fast.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_GRACE_SECONDS: Final = 8.0
_POLL_SECONDS: Final = 0.05
# Only a process stuck in the kernel outlives SIGKILL for longer, and waiting for that one would not help.
_KILL_SECONDS: Final = 2.0
_KILL_POLL_SECONDS: Final = 0.01


def session_processes(session_id: int, proc: Path = Path("/proc")) -> list[int]:
    """Process ids of a session, its leader left out. Linux only."""
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit() and int(entry.name) != session_id:
            try:
                # Fields after the command's name, which may itself hold spaces and brackets: state ppid pgrp session.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session_id and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def kill_session(session_id: int) -> bool:
    """SIGKILL every process of a session but its leader; true when there was none left to kill.

    A process may start another one while we look, and takes a moment to die: call again until true.
    """
    processes = session_processes(session_id)
    for pid in processes:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return not processes


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel for a signal when our parent ends (PR_SET_PDEATHSIG, prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _guard(folder: Path, command: list[str]) -> int:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    guardian = os.getpid()
    # A guardian that is itself killed takes the API server along; the session is then cleared by its starter.
    engine = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),  # noqa: PLW1509  # this process has one thread
    )
    deadline: float | None = None
    while engine.poll() is None:
        if stopping and deadline is None:
            engine.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + _GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    give_up_at = time.monotonic() + _KILL_SECONDS
    while not kill_session(guardian) and time.monotonic() < give_up_at:
        engine.poll()  # reap it: a zombie of ours no longer counts
        time.sleep(_KILL_POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    code = engine.wait()
    return 0 if deadline is not None else code if code >= 0 else 128 - code


def main() -> NoReturn:
    """Guard the command after `--`."""
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.stderr.write("usage: python -m workers.guardian FOLDER -- COMMAND...\n")
        sys.exit(2)
    sys.exit(_guard(Path(sys.argv[1]), sys.argv[3:]))


if __name__ == "__main__":
    main()
