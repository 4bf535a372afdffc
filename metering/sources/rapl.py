"""CPU packages and their memory through RAPL, the energy counters of x86 processors, as the kernel shows them in sysfs.

`package-N` (or `package-N-die-M`) is the component `cpu`, `dram` is `dram`. `core` and `uncore` are inside the package,
`psys` contains it: counting any of them would count twice. A counter shows everything its package does, whoever asked
for it; that only one engine uses the host is for whoever chooses this source to see to.

The register is updated about every millisecond and holds 32 bits (kernel, Documentation/hwmon/amd_energy.rst; Intel,
Software Developer's Manual, volume 3, "RAPL interfaces"). Its documented error: none that holds for more than one
model, see docs/sources.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from metering.counter import MICROJOULES_PER_JOULE, CounterInfo, EnergyReading
from metering.errors import CounterReadError, SourceUnavailableError
from metering.sources.opened import OpenedSource
from metering.sources.powercap import explain_unreadable, find_zones, read_microjoules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from metering.sources.powercap import PowerZone

UPDATE_PERIOD_SECONDS = 0.001
PLAUSIBLE_WATTS = 1_000.0
"""No socket or its memory draws more: twice what the hottest server processors of 2025 are rated for (500 W)."""
SHORTEST_WRAP_SECONDS = 1.0
"""No counter wraps sooner even at that power: the usual units, 15.3 and 61 microjoules, give 65 and 262 kJ."""
READING_TAKES_SECONDS = 0.1
"""Reads that seem closer together may be so far apart: a reader can be put aside in the middle of one."""
_PACKAGE = re.compile(r"package-\d+(-die-\d+)?")
_DRAM = "dram"


class RaplCounter:
    """One zone's energy since this counter was made, continuous through the register's wrap-around.

    How often the register wrapped between two reads cannot be seen, so the energy between them is known only where no
    plausible power could have filled it once more: 65 or 262 s apart with the usual units. After a longer gap,
    and where a fall is too steep for a wrap (the register is cleared when the machine sleeps), the sum restarts at
    zero, and whoever follows it must notice. A wrap loses at most the register's unit, tens of microjoules. One reader
    at a time.
    """

    def __init__(self, zone: PowerZone, info: CounterInfo, clock: Callable[[], float]) -> None:
        """Prepare to read the zone.

        Raises:
            SourceUnavailableError: the zone does not say where its counter wraps.
        """
        self.info = info
        self._file = zone.directory / "energy_uj"
        self._clock = clock
        self._range_microjoules = _range_microjoules(zone)
        range_joules = self._range_microjoules / MICROJOULES_PER_JOULE
        self._longest_gap_seconds = max(range_joules / PLAUSIBLE_WATTS, SHORTEST_WRAP_SECONDS)
        self._last: tuple[float, int] | None = None
        self._energy_microjoules = 0
        self._closed = False

    def read(self) -> EnergyReading:
        if self._closed:
            message = "this RAPL counter was closed"
            raise CounterReadError(message)
        at_seconds = self._clock()
        try:
            raw_microjoules = read_microjoules(self._file)
        except (OSError, ValueError) as problem:
            raise CounterReadError(str(explain_unreadable(self._file, problem))) from problem
        if self._last is not None:
            last_at_seconds, last_raw_microjoules = self._last
            rise = self._rise_microjoules(last_raw_microjoules, raw_microjoules, self._clock() - last_at_seconds)
            self._energy_microjoules = 0 if rise is None else self._energy_microjoules + rise
        self._last = (at_seconds, raw_microjoules)
        return EnergyReading(at_seconds, self._energy_microjoules)

    def close(self) -> None:
        self._closed = True

    def _rise_microjoules(self, last: int, raw: int, elapsed_seconds: float) -> int | None:
        """Energy between two looks at the register at most so far apart; None where it cannot be known."""
        if elapsed_seconds > self._longest_gap_seconds:
            return None
        if raw >= last:
            return raw - last
        rise = self._range_microjoules - last + raw
        plausible_joules = PLAUSIBLE_WATTS * max(elapsed_seconds, READING_TAKES_SECONDS)
        return rise if 0 <= rise <= plausible_joules * MICROJOULES_PER_JOULE else None


def open_rapl_counters(clock: Callable[[], float], root: Path) -> OpenedSource:
    """Open every package, and every package's memory where the processor counts it.

    Raises:
        SourceUnavailableError: there is no such tree, or a package in it cannot be read.
    """
    zones = find_zones(root)
    names = {zone.identifier: zone.name for zone in zones}
    packages = [zone for zone in zones if _PACKAGE.fullmatch(zone.name)]
    if not packages:
        found = ", ".join(names.values())
        raise SourceUnavailableError(f"the RAPL tree in {root} counts no processor package, only {found}")
    counters = [_open(zone, _info(zone, "cpu", zone.name), clock) for zone in packages]
    try:
        memory = [
            _open(zone, _info(zone, "dram", _memory_of(zone, names)), clock) for zone in zones if zone.name == _DRAM
        ]
    except SourceUnavailableError as problem:
        return OpenedSource(tuple(counters), (problem,))
    return OpenedSource((*counters, *memory))


def _open(zone: PowerZone, info: CounterInfo, clock: Callable[[], float]) -> RaplCounter:
    counter = RaplCounter(zone, info, clock)
    file = zone.directory / "energy_uj"
    try:
        read_microjoules(file)
    except (OSError, ValueError) as problem:
        raise explain_unreadable(file, problem) from problem
    return counter


def _range_microjoules(zone: PowerZone) -> int:
    file = zone.directory / "max_energy_range_uj"
    try:
        return read_microjoules(file)
    except (OSError, ValueError) as problem:
        raise explain_unreadable(file, problem) from problem


def _memory_of(zone: PowerZone, names: dict[str, str]) -> str:
    package = names.get(zone.parent_identifier)
    return f"{package}:{_DRAM}" if package else _DRAM


def _info(zone: PowerZone, component: str, domain: str) -> CounterInfo:
    what = "the memory" if component == "dram" else "the processor package with its cores, caches and graphics"
    return CounterInfo(
        device=f"rapl:{domain}",
        component=component,
        source="rapl",
        measured=True,
        update_period_seconds=UPDATE_PERIOD_SECONDS,
        uncertainty_ratio=None,
        description=f"RAPL domain {domain} ({zone.identifier}): {what}, whoever uses it",
    )
