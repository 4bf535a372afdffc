from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import SettingError
from server.report.period import PERIODS, named_period, parse_instant, report_bounds

# A Thursday.
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def shown(bounds: tuple[float | None, float | None]) -> list[str | None]:
    return [None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d") for at in bounds]


@pytest.mark.parametrize(
    ("period", "bounds"),
    [
        ("today", ["2026-01-01", None]),
        ("yesterday", ["2025-12-31", "2026-01-01"]),
        ("week", ["2025-12-29", None]),
        ("last-week", ["2025-12-22", "2025-12-29"]),
        ("month", ["2026-01-01", None]),
        ("last-month", ["2025-12-01", "2026-01-01"]),
        ("year", ["2026-01-01", None]),
        ("last-year", ["2025-01-01", "2026-01-01"]),
        ("all", [None, None]),
    ],
)
def test_a_period_has_its_bounds(period: str, bounds: list[str | None]) -> None:
    assert shown(named_period(period, NOW)) == bounds


@given(st.sampled_from(PERIODS), st.floats(86_400 * 800, 4e9))
def test_every_period_begins_before_it_ends(period: str, now: float) -> None:
    since, until = named_period(period, now)
    assert since is None or since <= now
    assert until is None or (since is not None and since < until <= now)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01", NOW - 43_200),
        ("2026-01-01T12:00", NOW),
        ("2026-01-01T12:00:00Z", NOW),
        ("2026-01-01T13:00:00+01:00", NOW),
        (str(NOW), NOW),
        ("0", 0),
    ],
)
def test_an_instant_is_read(text: str, seconds: float) -> None:
    assert parse_instant("since", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "nan", "1e400", "-1", "1_000", "2026-13-01", "1e15", "0001-01-01"])
def test_what_is_no_instant_is_named(text: str) -> None:
    with pytest.raises(SettingError, match=r"^since = .*: expected a date"):
        parse_instant("since", text)


@pytest.mark.parametrize(
    ("since", "until", "period", "complaint"),
    [
        ("2026-01-02", "2026-01-01", None, "^until = '2026-01-01': expected a time after since"),
        ("2026-01-01", None, "today", "^period = 'today': expected alone"),
        (None, None, "fortnight", "^period = 'fortnight': expected one of today"),
    ],
)
def test_bounds_that_make_no_sense(since: str | None, until: str | None, period: str | None, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        report_bounds(since, until, period, NOW)
