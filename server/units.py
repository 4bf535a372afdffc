"""Joules, watts, counts and times as people read them: few digits, the unit beside them, `?` for what is not known.

For the terminal only; what programs read carries base units.
"""

from typing import Final

UNKNOWN: Final = "?"
_PREFIXES: Final = (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))
# A prefix comes in where a number would need a fifth digit.
_DIGITS_LIMIT: Final = 10_000
# From this size on, so many decimals.
_DECIMALS: Final = ((100.0, 0), (10.0, 1), (1.0, 2), (0.01, 3), (0.001, 4))
_SMALLEST: Final = 0.0001
_MINUTE_SECONDS: Final = 60
_HOUR_SECONDS: Final = 60 * _MINUTE_SECONDS
_DAY_SECONDS: Final = 24 * _HOUR_SECONDS


def format_joules(joules: float | None) -> str:
    """As `512 J`, `0.334 J`, `13.1 kJ`."""
    return _with_unit(joules, "J")


def format_watts(watts: float | None) -> str:
    """As `41.2 W`."""
    return _with_unit(watts, "W")


def format_count(count: float | None) -> str:
    """As `999`, `12.3k`."""
    if count is None:
        return UNKNOWN
    prefix, scaled = _scale(count)
    return f"{_digits(scaled)}{prefix}" if prefix else f"{count:,.0f}"


def format_ratio(ratio: float | None) -> str:
    """A share of the whole in per cent, as `61 %`; one that is neither nothing nor all is never shown as either."""
    if ratio is None:
        return UNKNOWN
    percent = ratio * 100
    if 0 < percent < 0.5:
        return "<1 %"
    if 99.5 <= percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def format_seconds(seconds: float | None) -> str:
    """As `35 ms`, `1.25 s`, `12.5 s`."""
    if seconds is None:
        return UNKNOWN
    if seconds >= _MINUTE_SECONDS:
        return format_age(seconds)
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{_digits(seconds)} s"


def format_age(seconds: float | None) -> str:
    """How long ago or how long for, as `7 s`, `3 min`, `1 h 02 min`, `4 d 3 h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < _MINUTE_SECONDS:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < _HOUR_SECONDS:
        return f"{seconds // _MINUTE_SECONDS:.0f} min"
    if seconds < _DAY_SECONDS:
        return f"{seconds // _HOUR_SECONDS:.0f} h {seconds % _HOUR_SECONDS // _MINUTE_SECONDS:02.0f} min"
    return f"{seconds // _DAY_SECONDS:.0f} d {seconds % _DAY_SECONDS // _HOUR_SECONDS:.0f} h"


def _with_unit(value: float | None, unit: str) -> str:
    if value is None:
        return UNKNOWN
    prefix, scaled = _scale(value)
    return f"{_digits(scaled)} {prefix}{unit}"


def _scale(value: float) -> tuple[str, float]:
    """The prefix and what stands before it."""
    if abs(value) < _DIGITS_LIMIT:
        return "", value
    prefix, factor = max(((p, f) for p, f in _PREFIXES if abs(value) >= f), key=lambda pair: pair[1])
    return prefix, value / factor


def _digits(value: float) -> str:
    """Three digits that count, but never fewer than stand before the point, and no exponent."""
    if value == 0:
        return "0"
    for least, decimals in _DECIMALS:
        if abs(value) >= least:
            return f"{value:.{decimals}f}"
    return f"{value:.2g}" if abs(value) >= _SMALLEST else f"<{_SMALLEST:g}"
