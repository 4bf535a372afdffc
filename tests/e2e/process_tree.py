"""Finds the processes of a server under test from outside, through /proc alone."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.guardian import session_processes


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """One process for certain: ids are used again, an id with its start is not."""

    pid: int
    started_at_unix_seconds: float


@dataclass(frozen=True, slots=True)
class EngineProcesses:
    """One engine as the front end started it: its guardian, the API server in the guardian's care, and its socket."""

    guardian_pid: int
    api_server_pid: int
    socket_path: Path

    @property
    def worker_id(self) -> str:
        """Its name at the front end, which its environment carries."""
        return psutil.Process(self.api_server_pid).environ()["WATTLINE_WORKER_ID"]

    def engine_core_pid(self) -> int:
        """vLLM's own process for the engine, a child of its API server, told by the title it gives itself."""
        (core,) = [pid for pid in self.session_pids() if "EngineCore" in " ".join(psutil.Process(pid).cmdline()[:1])]
        return core

    def session_pids(self) -> list[int]:
        """The API server and everything it started, the guardian left out."""
        return session_processes(self.guardian_pid)


def engines_of(front_end_pid: int) -> list[EngineProcesses]:
    """The engines now running under a front end, ordered by their start."""
    found = []
    for child in sorted(psutil.Process(front_end_pid).children(), key=lambda process: process.create_time()):
        command = child.cmdline()
        if "workers.guardian" in command and (started := child.children()):
            socket_path = Path(command[command.index("--uds") + 1])
            found.append(EngineProcesses(child.pid, started[0].pid, socket_path))
    return found


def tree_of(root_pid: int) -> set[ProcessKey]:
    """A process and all its descendants, and everything in the sessions that they lead."""
    root = psutil.Process(root_pid)
    pids = {process.pid for process in (root, *root.children(recursive=True))}
    for leader in list(pids):
        pids.update(session_processes(leader))
    return {key for pid in pids if (key := _key(pid)) is not None}


def alive(keys: set[ProcessKey]) -> set[ProcessKey]:
    """Those that still run; a zombie does not."""
    return {key for key in keys if _key(key.pid) == key}


def wait_until_gone(keys: set[ProcessKey], timeout_seconds: float) -> set[ProcessKey]:
    """Wait for the end of all; returns those that still run after `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while (left := alive(keys)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _key(pid: int) -> ProcessKey | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else ProcessKey(pid, process.create_time())
    except psutil.NoSuchProcess:
        return None
