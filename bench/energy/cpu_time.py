"""CPU time that engines and their front end have used, read from outside: fields of proc_pid_stat(5).

`proc` is a parameter so that tests can point at a folder. An engine is a session of processes whose leader the front
end started; nothing here knows what runs in it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_CLOCK_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
# Fields after the command's name, which may hold spaces and brackets itself; the state is the first.
_PARENT, _SESSION, _USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM, _STARTED = 1, 3, 11, 12, 13, 14, 19
# Of the machine: user, nice, system, irq, softirq, steal.
_BUSY_FIELDS: Final = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """User and system time so far: of all engines there have been, of the front end's own process, and of all there is.

    `machine` also holds what hypervisors gave to others meanwhile (steal): time in which something here had to wait.
    """

    engines: float
    front_end: float
    machine: float

    def __sub__(self, earlier: Self) -> "CpuSeconds":
        return CpuSeconds(
            self.engines - earlier.engines, self.front_end - earlier.front_end, self.machine - earlier.machine
        )


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    session: int
    own_ticks: int
    children_ticks: int
    started_ticks: int


class CpuWatch:
    """Adds up the CPU time below one front end. Look at least as often as engines may be stopped.

    An engine's time is that of every process in its session and of the children they have reaped. When an engine is
    stopped its last reading still counts, so that what it used between the last look and its end is all that is missed.
    """

    def __init__(self, front_end_pid: int, proc: Path = Path("/proc")) -> None:
        self._pid = front_end_pid
        self._proc = proc
        self._engine_ticks: dict[tuple[int, int], int] = {}
        self._front_end_ticks = 0

    def read(self) -> CpuSeconds:
        """The totals now."""
        processes = [found for entry in self._proc.iterdir() if (found := _read(entry)) is not None]
        for leader in processes:
            if leader.pid == self._pid:
                self._front_end_ticks = leader.own_ticks
            if leader.parent != self._pid or leader.session != leader.pid:
                continue
            ticks = sum(one.own_ticks + one.children_ticks for one in processes if one.session == leader.pid)
            key = leader.pid, leader.started_ticks
            # A process that died unreaped, or is being reaped as we look, must not take its time back.
            self._engine_ticks[key] = max(ticks, self._engine_ticks.get(key, 0))
        return CpuSeconds(
            sum(self._engine_ticks.values()) / _CLOCK_TICKS_PER_SECOND,
            self._front_end_ticks / _CLOCK_TICKS_PER_SECOND,
            machine_cpu_seconds(self._proc),
        )


def machine_cpu_seconds(proc: Path = Path("/proc")) -> float:
    """All that is not idle so far, by the first line of proc_stat(5); guests' time is within that of users."""
    fields = (proc / "stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(fields[index]) for index in _BUSY_FIELDS) / _CLOCK_TICKS_PER_SECOND


def engine_sockets(front_end_pid: int, proc: Path = Path("/proc")) -> list[Path]:
    """The unix sockets of the engines that run below a front end, as their command lines name them."""
    sockets = []
    for entry in proc.iterdir():
        process = _read(entry)
        if process is None or process.parent != front_end_pid or process.session != process.pid:
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "--uds" in command[:-1]:
            sockets.append(Path(command[command.index("--uds") + 1]))
    return sorted(sockets)


def _read(entry: Path) -> _Process | None:
    """The process of a folder in /proc, None where it is no process or has just ended."""
    if not entry.name.isdigit():
        return None
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return _Process(
        pid=int(entry.name),
        parent=int(fields[_PARENT]),
        session=int(fields[_SESSION]),
        own_ticks=int(fields[_USER]) + int(fields[_SYSTEM]),
        children_ticks=int(fields[_CHILDREN_USER]) + int(fields[_CHILDREN_SYSTEM]),
        started_ticks=int(fields[_STARTED]),
    )
