"""Carbon intensities from a file of times: a recorded year, a forecast, or what a job of the operator's own appends to.

Two sets of columns are understood: `datetime,gco2eq_per_kwh`, and those of Electricity Maps' data portal, whose
life-cycle column is taken, as its live API gives life-cycle values too.
"""

import bisect
import csv
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from server.carbon.errors import CarbonFileError
from server.carbon.grid import MAX_GCO2_PER_KWH, CarbonIntensity, GridSample, aged, is_plausible, unix_seconds_of

_TIME_COLUMNS: Final = ("datetime", "datetime (utc)")
_VALUE_COLUMNS: Final = ("gco2eq_per_kwh",)
# The portal has spelt its column in several ways over the years.
_PORTAL_VALUE: Final = "carbon intensity gco₂eq/kwh ("
_PORTAL_KINDS: Final = ("life cycle", "lca")
# A source is stored with every request.
_SHOWN_CHARACTERS: Final = 64
_ZONE_COLUMNS: Final = ("zone id",)
EXPECTED_COLUMNS: Final = "the columns datetime,gco2eq_per_kwh, or an export of Electricity Maps"


class TimetableGridCarbon:
    """Steps: a row holds until the next one. Before the first, and too long after the latest, nothing is known.

    Raises:
        CarbonFileError: the file cannot be read or holds something else.
    """

    def __init__(self, file: Path, stale_after_seconds: float) -> None:
        self._file = file
        self._stale_after_seconds = stale_after_seconds
        self._samples = read_timetable(file)

    def now(self, unix_seconds: float) -> CarbonIntensity:
        samples = self._samples
        following = bisect.bisect_right(samples, unix_seconds, key=_begin)
        if following == 0:
            return CarbonIntensity(None, samples[0].source, None, "the file's times begin later")
        return aged(samples[following - 1], unix_seconds, self._stale_after_seconds)

    def reload(self) -> str:
        """Read the file again; what is not readable changes nothing. Returns what there is now, for the log.

        Raises:
            CarbonFileError: as when it was made.
        """
        self._samples = read_timetable(self._file)
        return f"carbon: {len(self._samples)} rows of {self._file.name}"


def read_timetable(file: Path) -> Sequence[GridSample]:
    """The rows in the order of their times, at least one.

    Raises:
        CarbonFileError: the file cannot be read or holds something else.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            samples = sorted(_samples(lines, f"file {file.name[:_SHOWN_CHARACTERS]}"), key=_begin)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CarbonFileError(getattr(error, "strerror", None) or str(error)) from error
    if not samples:
        raise CarbonFileError("it has no rows")
    for earlier, later in itertools.pairwise(samples):
        if earlier.from_unix_seconds == later.from_unix_seconds and earlier.gco2_per_kwh != later.gco2_per_kwh:
            raise CarbonFileError("two of its rows are of the same time and differ")
        if earlier.source != later.source:
            raise CarbonFileError("it holds more than one zone")
    return samples


_begin = operator.attrgetter("from_unix_seconds")


def _samples(lines: Iterable[str], source: str) -> Iterator[GridSample]:
    rows = csv.reader(lines)
    time_at, value_at, zone_at = _columns(next(rows, []))
    for row in rows:
        if not row:
            continue
        try:
            begin, value = unix_seconds_of(row[time_at]), float(row[value_at])
            zone = row[zone_at].strip() if zone_at is not None else None
        except (ValueError, IndexError) as error:
            raise CarbonFileError(f"line {rows.line_num}: expected a time in ISO 8601 and a number") from error
        if not is_plausible(value):
            raise CarbonFileError(f"line {rows.line_num}: expected grams per kWh, 0 to {MAX_GCO2_PER_KWH:.0f}")
        yield GridSample(value, f"{source} ({zone})" if zone else source, begin, begin)


def _columns(header: Sequence[str]) -> tuple[int, int, int | None]:
    """Where the time, the value and, if there is one, the zone stand."""
    names = [name.strip().casefold() for name in header]
    times = [at for at, name in enumerate(names) if name in _TIME_COLUMNS]
    values = [at for at, name in enumerate(names) if name in _VALUE_COLUMNS or _is_portal_value(name)]
    zones = [at for at, name in enumerate(names) if name in _ZONE_COLUMNS]
    if len(times) != 1 or len(values) != 1:
        raise CarbonFileError(f"expected {EXPECTED_COLUMNS}")
    return times[0], values[0], zones[0] if zones else None


def _is_portal_value(name: str) -> bool:
    return name.startswith(_PORTAL_VALUE) and name.removeprefix(_PORTAL_VALUE).startswith(_PORTAL_KINDS)
