"""Which processes of a session are there; asked of the kernel, not of the code under test."""

import os
from pathlib import Path


def processes_of(session_id: int) -> set[int]:
    """Living processes of the session, its leader included."""
    return {
        pid
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and is_alive(pid := int(entry.name)) and session_of(pid) == session_id
    }


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def is_alive(pid: int) -> bool:
    """There and not a zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
