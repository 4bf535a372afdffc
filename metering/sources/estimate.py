"""A model of CPU power for machines without a sensor: idle watts plus what the engine's CPU time adds.

Nothing here is measured, and `info` says so. Reads the process table only; knows no engine.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.counter import MICROJOULES_PER_JOULE, CounterInfo, EnergyReading
from metering.errors import CounterReadError, MeterSettingError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Cloud Carbon Footprint's averages over AWS's processors, from SPECpower
# (https://www.cloudcarbonfootprint.org/docs/methodology#appendix-i-energy-coefficients).
IDLE_WATTS_PER_VCPU = 0.74
MAX_WATTS_PER_VCPU = 3.5
MOST_WATTS_PER_VCPU = 1_000.0
"""A whole socket's power, and more: what is above is a mistake."""
COEFFICIENTS_SOURCE = "Cloud Carbon Footprint's AWS averages, from SPECpower"

IDLE_WATTS_KEY = "WATTLINE_ESTIMATE_IDLE_WATTS_PER_VCPU"
MAX_WATTS_KEY = "WATTLINE_ESTIMATE_MAX_WATTS_PER_VCPU"

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
DESCENDANTS_PERIOD_SECONDS = 2.0
"""Finding descendants reads every process's stat file, milliseconds on a busy machine, so it is done this rarely."""
STAT_BYTES = 1024
"""More than a stat line can hold: a name of at most 64 bytes and some fifty integers, most of them short."""
ENDED_STATES = "ZX"
"""Zombie and dead: the process holds a number, and runs no more."""

# Fields of proc_pid_stat(5), counted from 0 after the name. Those after the system time are the times of children
# it has waited for, which were counted under the children's own numbers.
_STATE, _PARENT, _USER_TIME, _SYSTEM_TIME, _START_TIME = 0, 1, 11, 12, 19


@dataclass(frozen=True, slots=True)
class EstimateCoefficients:
    """Power of one vCPU when idle and when fully used."""

    idle_watts_per_vcpu: float = IDLE_WATTS_PER_VCPU
    max_watts_per_vcpu: float = MAX_WATTS_PER_VCPU

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> EstimateCoefficients:
        """Take the defaults where the environment names none.

        Raises:
            MeterSettingError: a value is no positive number, or the maximum is below idle.
        """
        idle_watts = _positive_watts(environ, IDLE_WATTS_KEY, IDLE_WATTS_PER_VCPU)
        max_watts = _positive_watts(environ, MAX_WATTS_KEY, MAX_WATTS_PER_VCPU)
        if max_watts < idle_watts:
            message = f"{MAX_WATTS_KEY} is {max_watts}: expected at least {IDLE_WATTS_KEY}, which is {idle_watts}"
            raise MeterSettingError(message)
        return cls(idle_watts, max_watts)


@dataclass(frozen=True, slots=True)
class _ProcessStat:
    """What `proc_pid_stat(5)` says of a process; the start time tells two processes with one number apart."""

    pid: int
    parent_pid: int
    state: str
    cpu_ticks: int
    start_ticks: int

    @property
    def key(self) -> tuple[int, int]:
        return self.pid, self.start_ticks


class ProcessEstimateCounter:
    """Estimated CPU energy of a process and all its descendants since the process started.

    Idle watts for every vCPU over the wall time, plus (max - idle) watts over the CPU time used. A descendant found
    late brings all the CPU time it has used; one that ends keeps its last; one that both starts and ends between two
    looks at the process table is missed. One reader at a time.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        root_pid: int,
        idle_watts_per_vcpu: float = IDLE_WATTS_PER_VCPU,
        max_watts_per_vcpu: float = MAX_WATTS_PER_VCPU,
        vcpus: int | None = None,
        *,
        proc_directory: Path = Path("/proc"),
        boot_clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        """Find the process; `vcpus` defaults to the CPUs it may run on.

        Raises:
            SourceUnavailableError: there is no such process, or no process table.
        """
        self._clock = clock
        self._proc_directory = str(proc_directory)
        root = self._stat_of_root(root_pid)
        self._root_key = root.key
        # Time asleep counts on the boot clock only: a machine suspended since the process started is charged for it.
        age_seconds = max(0.0, boot_clock() - root.start_ticks / TICKS_PER_SECOND)
        self._started_at_seconds = clock() - age_seconds
        self._vcpus = len(os.sched_getaffinity(root_pid)) if vcpus is None else vcpus
        self._idle_watts = idle_watts_per_vcpu * self._vcpus
        self._busy_watts_per_cpu = max_watts_per_vcpu - idle_watts_per_vcpu
        self._ticks_by_process = {root.key: root.cpu_ticks}
        self._ended_ticks = 0
        self._descendants_due_at_seconds = -math.inf
        self._closed = False
        self.info = self._describe(idle_watts_per_vcpu, max_watts_per_vcpu)

    def read(self) -> EnergyReading:
        if self._closed:
            message = "this estimate was closed"
            raise CounterReadError(message)
        if self._clock() >= self._descendants_due_at_seconds:
            self._find_descendants()
            self._descendants_due_at_seconds = self._clock() + DESCENDANTS_PERIOD_SECONDS
        at_seconds = self._clock()
        self._read_cpu_ticks()
        cpu_seconds = (self._ended_ticks + sum(self._ticks_by_process.values())) / TICKS_PER_SECOND
        idle_joules = self._idle_watts * (at_seconds - self._started_at_seconds)
        energy_joules = idle_joules + self._busy_watts_per_cpu * cpu_seconds
        return EnergyReading(at_seconds, int(energy_joules * MICROJOULES_PER_JOULE))

    def close(self) -> None:
        self._closed = True

    def _stat_of_root(self, root_pid: int) -> _ProcessStat:
        why = "there is no such process"
        try:
            stat = self._stat(root_pid)
        except OSError as problem:
            stat, why = None, str(problem)
        if stat is None:
            message = f"cannot read the CPU time of process {root_pid} in {self._proc_directory}: {why}"
            raise SourceUnavailableError(message)
        return stat

    def _read_cpu_ticks(self) -> None:
        for key, last_ticks in list(self._ticks_by_process.items()):
            try:
                stat = self._stat(key[0])
            except OSError as problem:
                message = f"cannot read the CPU time of process {key[0]}: {problem}"
                raise CounterReadError(message) from problem
            gone = stat is None or stat.key != key
            if key == self._root_key and (gone or (stat is not None and stat.state in ENDED_STATES)):
                message = f"process {key[0]} has ended"
                raise CounterReadError(message)
            if stat is None or gone:
                self._ended_ticks += self._ticks_by_process.pop(key)
            else:
                self._ticks_by_process[key] = max(last_ticks, stat.cpu_ticks)

    def _find_descendants(self) -> None:
        """Follow parents through the whole process table, also from orphans whose parent has ended meanwhile."""
        children: dict[int, list[_ProcessStat]] = {}
        for name in os.listdir(self._proc_directory):  # noqa: PTH208  paths would double the cost
            if not name.isdecimal():
                continue
            with suppress(PermissionError):  # hidden, so another user's and none of ours
                stat = self._stat(int(name))
                if stat is not None:
                    children.setdefault(stat.parent_pid, []).append(stat)
        waiting = [pid for pid, _start_ticks in self._ticks_by_process]
        while waiting:
            for child in children.pop(waiting.pop(), ()):
                self._ticks_by_process.setdefault(child.key, child.cpu_ticks)
                waiting.append(child.pid)

    def _stat(self, pid: int) -> _ProcessStat | None:
        """Read one process, None where it is no more.

        Raises:
            OSError: it is there and could not be read.
        """
        try:
            descriptor = os.open(f"{self._proc_directory}/{pid}/stat", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            line = os.read(descriptor, STAT_BYTES)
        except ProcessLookupError:  # it ended between the two calls
            return None
        finally:
            os.close(descriptor)
        return _parse_stat(pid, line)

    def _describe(self, idle_watts_per_vcpu: float, max_watts_per_vcpu: float) -> CounterInfo:
        pid = self._root_key[0]
        return CounterInfo(
            device=f"process:{pid}",
            component="cpu",
            source="estimate",
            measured=False,
            update_period_seconds=1 / TICKS_PER_SECOND,
            uncertainty_ratio=None,
            description=(
                f"model of process {pid} and its descendants: {idle_watts_per_vcpu:g} W idle to "
                f"{max_watts_per_vcpu:g} W busy for each of {self._vcpus} vCPU(s)"
            ),
        )


def _parse_stat(pid: int, line: bytes) -> _ProcessStat | None:
    """Parse `proc_pid_stat(5)`; the name, field 2, may itself hold spaces and brackets, so count from its end."""
    fields = line[line.rfind(b")") + 1 :].split()
    if len(fields) <= _START_TIME:
        return None
    return _ProcessStat(
        pid=pid,
        state=fields[_STATE].decode("ascii"),
        parent_pid=int(fields[_PARENT]),
        cpu_ticks=int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME]),
        start_ticks=int(fields[_START_TIME]),
    )


def _positive_watts(environ: Mapping[str, str], key: str, default: float) -> float:
    text = environ.get(key)
    if text is None:
        return default
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if not 0 < watts <= MOST_WATTS_PER_VCPU:
        message = (
            f"{key} is {text!r}: expected watts per vCPU, a positive number such as {default:g}, at most "
            f"{MOST_WATTS_PER_VCPU:g}"
        )
        raise MeterSettingError(message)
    return watts
