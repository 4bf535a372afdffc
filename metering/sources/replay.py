"""A recorded counter played back on the injected clock, for tests and demonstrations.

The recording is a CSV file `seconds,component,energy_microjoules` of cumulative values. Nothing is measured, and
`info` says so.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from typing import TYPE_CHECKING

from metering.counter import CounterInfo, EnergyReading
from metering.errors import CounterReadError, MeterSettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

HEADER = ["seconds", "component", "energy_microjoules"]
COMPONENTS = ("gpu", "cpu", "dram")
MOST_MICROJOULES = 2**63
MIN_ROWS = 2
"""A line needs two points."""


class ReplayCounter:
    """One component of a recording: linear between rows, flat before the first and after the last."""

    def __init__(
        self, clock: Callable[[], float], component: str, rows: list[tuple[float, int]], *, recording: str = "memory"
    ) -> None:
        """Start playing now; `rows` are (seconds since then, cumulative microjoules), at least two, both rising."""
        self._clock = clock
        self._started_at_seconds = clock()
        self._seconds = [seconds for seconds, _ in rows]
        self._energies_microjoules = [energy for _, energy in rows]
        self._closed = False
        self.info = CounterInfo(
            device=f"replay:{recording}",
            component=component,
            source="replay",
            measured=False,
            update_period_seconds=(rows[-1][0] - rows[0][0]) / (len(rows) - 1),
            uncertainty_ratio=None,
            description=f"recording {recording} of {len(rows)} rows, played back",
            may_stand_still=True,
        )

    def read(self) -> EnergyReading:
        if self._closed:
            message = "this recording was closed"
            raise CounterReadError(message)
        at_seconds = self._clock()
        return EnergyReading(at_seconds, self._energy_microjoules(at_seconds - self._started_at_seconds))

    def close(self) -> None:
        self._closed = True

    def _energy_microjoules(self, seconds: float) -> int:
        after = bisect_right(self._seconds, seconds)
        if after == 0:
            return self._energies_microjoules[0]
        if after == len(self._seconds):
            return self._energies_microjoules[-1]
        start, end = self._seconds[after - 1], self._seconds[after]
        energy, next_energy = self._energies_microjoules[after - 1 : after + 1]
        return energy + int((next_energy - energy) * ((seconds - start) / (end - start)))


def load_replay(path: Path, clock: Callable[[], float]) -> list[ReplayCounter]:
    """Open a recording as one counter per component; its earliest row is played now.

    Raises:
        MeterSettingError: no such file, or a line that is no recording's; the message names file and line.
    """
    if path.exists() and not path.is_file():
        message = f"the recording {path} cannot be read: it is no regular file"
        raise MeterSettingError(message)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows_by_component = _parse(path, file)
    except (OSError, UnicodeDecodeError) as problem:
        message = f"the recording {path} cannot be read: {problem}"
        raise MeterSettingError(message) from problem
    first_seconds = min(rows[0][0] for rows in rows_by_component.values())
    return [
        ReplayCounter(clock, component, [(at - first_seconds, energy) for at, energy in rows], recording=path.name)
        for component, rows in rows_by_component.items()
    ]


def _parse(path: Path, lines: Iterable[str]) -> dict[str, list[tuple[float, int]]]:
    rows_by_component: dict[str, list[tuple[float, int]]] = {}
    number = 0
    for number, fields in _numbered_rows(path, lines):
        component, seconds, energy = _parse_row(path, number, fields)
        rows = rows_by_component.setdefault(component, [])
        if rows and (seconds <= rows[-1][0] or energy < rows[-1][1]):
            raise _bad(path, number, f"expected later seconds and no less energy than {rows[-1]} for {component!r}")
        rows.append((seconds, energy))
    short = [component for component, rows in rows_by_component.items() if len(rows) < MIN_ROWS]
    if short or not rows_by_component:
        raise _bad(path, number + 1, f"expected at least {MIN_ROWS} rows for each component, and the file ends")
    return rows_by_component


def _numbered_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, strict=True)
    try:
        if next(reader, None) != HEADER:
            raise _bad(path, 1, f"expected the header {','.join(HEADER)}")
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as problem:
        raise _bad(path, reader.line_num, str(problem)) from problem


def _parse_row(path: Path, number: int, fields: list[str]) -> tuple[str, float, int]:
    try:
        seconds_text, component, energy_text = fields
        seconds, energy = float(seconds_text), int(energy_text)
    except ValueError as problem:
        raise _bad(
            path, number, f"expected a number of seconds, a component and whole microjoules: {fields}"
        ) from problem
    if component not in COMPONENTS:
        raise _bad(path, number, f"component {component!r}: expected one of {', '.join(COMPONENTS)}")
    if not math.isfinite(seconds) or not 0 <= energy < MOST_MICROJOULES:
        raise _bad(path, number, f"expected finite seconds and an energy of at least 0 and below 2**63: {fields}")
    return component, seconds, energy


def _bad(path: Path, number: int, why: str) -> MeterSettingError:
    return MeterSettingError(f"the recording {path}, line {number}: {why}")
