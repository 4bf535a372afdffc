"""The carbon intensity of the grid at an instant, with its source and its age; or why it is not known.

Instants are seconds of the Unix epoch here: the grid's periods are, of which a monotonic clock knows nothing.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

# Burning lignite makes about 1,200 g/kWh; what is far beyond is another unit or garbage.
MAX_GCO2_PER_KWH: Final = 5_000.0
_SECONDS_PER_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class CarbonIntensity:
    """Grams of CO2 equivalent per kilowatt-hour, average (not marginal) as accounting wants it.

    `gco2_per_kwh` is None with a `reason` where it is not known or too old. `age_seconds` is the time since the instant
    the value is of; None where it is of no instant.
    """

    gco2_per_kwh: float | None
    source: str
    age_seconds: float | None
    reason: str | None


class GridCarbon(Protocol):
    """Knows the carbon intensity of one place. Never waits: what must be fetched is fetched beforehand."""

    def now(self, unix_seconds: float) -> CarbonIntensity: ...


@dataclass(frozen=True, slots=True)
class GridSample:
    """What was said of one period: its intensity from `from_unix_seconds` on, expected to hold until the other."""

    gco2_per_kwh: float
    source: str
    from_unix_seconds: float
    until_unix_seconds: float


def aged(sample: GridSample, unix_seconds: float, stale_after_seconds: float) -> CarbonIntensity:
    """The sample as it counts at an instant.

    A little in the future is a provider's clock that runs before ours, and fresh; as far off as would be stale it is
    not believed in either direction.
    """
    age_seconds = unix_seconds - sample.from_unix_seconds
    if age_seconds > stale_after_seconds:
        reason = f"the latest value is {age_seconds / _SECONDS_PER_HOUR:.1f} h old"
        return CarbonIntensity(None, sample.source, age_seconds, reason)
    if age_seconds < -stale_after_seconds:
        reason = f"the latest value is of {-age_seconds / _SECONDS_PER_HOUR:.1f} h from now; check the clocks"
        return CarbonIntensity(None, sample.source, None, reason)
    return CarbonIntensity(sample.gco2_per_kwh, sample.source, max(0.0, age_seconds), None)


def is_plausible(value: object) -> bool:
    """Whether it is a number that a grid's carbon intensity can have."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= MAX_GCO2_PER_KWH


def unix_seconds_of(text: str) -> float:
    """The instant of an ISO 8601 date and time; one without an offset is UTC.

    Raises:
        ValueError: it is none.
    """
    instant = datetime.fromisoformat(text.strip())
    try:
        return (instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error
