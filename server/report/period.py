"""Which time a report is about: instants as people and programs write them, and periods by name. All of UTC."""

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from server.errors import SettingError

PERIODS: Final = ("today", "yesterday", "week", "last-week", "month", "last-month", "year", "last-year", "all")
_LATEST_UNIX_SECONDS: Final = 253_402_300_799.0  # the end of the year 9999, with which calendars end


def parse_instant(name: str, value: str) -> float:
    """Seconds of the Unix epoch. A date is its midnight; what names no time zone is UTC.

    Raises:
        SettingError: it is neither a date, nor a time, nor Unix seconds.
    """
    seconds = _unix_seconds(value)
    if seconds is None or not 0 <= seconds <= _LATEST_UNIX_SECONDS:
        raise SettingError(
            f"{name} = {value!r}: expected a date (2026-01-31), a time (2026-01-31T12:00:00Z) or Unix seconds"
        )
    return seconds


def _unix_seconds(value: str) -> float | None:
    text = value.strip()
    try:
        # Eight digits are a date to Python and seconds of 1970 to nobody.
        seconds = float(text)
        return seconds if math.isfinite(seconds) and "_" not in text else None
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def named_period(name: str, now_unix_seconds: float) -> tuple[float | None, float | None]:
    """When a period begins and ends; None where it is open.

    Raises:
        SettingError: there is no such period.
    """
    now = datetime.fromtimestamp(now_unix_seconds, UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    week = today - timedelta(days=today.weekday())
    month, year = today.replace(day=1), today.replace(month=1, day=1)
    last_month = (month - timedelta(days=1)).replace(day=1)
    bounds: dict[str, tuple[datetime | None, datetime | None]] = {
        "today": (today, None),
        "yesterday": (today - timedelta(days=1), today),
        "week": (week, None),
        "last-week": (week - timedelta(days=7), week),
        "month": (month, None),
        "last-month": (last_month, month),
        "year": (year, None),
        "last-year": (year.replace(year=year.year - 1), year),
        "all": (None, None),
    }
    if name not in bounds:
        raise SettingError(f"period = {name!r}: expected one of {', '.join(PERIODS)}")
    since, until = bounds[name]
    return since.timestamp() if since else None, until.timestamp() if until else None


def report_bounds(
    since: str | None, until: str | None, period: str | None, now_unix_seconds: float
) -> tuple[float | None, float | None]:
    """The time asked for, by its bounds or by name; without either, all of it.

    Raises:
        SettingError: they make no sense, or contradict each other.
    """
    if period is not None:
        if since is not None or until is not None:
            raise SettingError(f"period = {period!r}: expected alone, without since and until")
        return named_period(period, now_unix_seconds)
    begin = None if since is None else parse_instant("since", since)
    end = None if until is None else parse_instant("until", until)
    if begin is not None and end is not None and begin >= end:
        raise SettingError(f"until = {until!r}: expected a time after since")
    return begin, end
