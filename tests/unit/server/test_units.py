"""Figures for people: short, with their unit, and never a 0 for what is not known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.units import format_age, format_count, format_joules, format_ratio, format_seconds, format_watts


@pytest.mark.parametrize(
    ("joules", "text"),
    [
        (None, "?"),
        (0.0, "0 J"),
        (0.00001, "<0.0001 J"),
        (0.00042, "0.00042 J"),
        (0.334, "0.334 J"),
        (8.0, "8.00 J"),
        (12.34, "12.3 J"),
        (6100.0, "6100 J"),
        (13_100.0, "13.1 kJ"),
        (2.5e9, "2.50 GJ"),
    ],
)
def test_joules(joules: float | None, text: str) -> None:
    assert format_joules(joules) == text


def test_watts_and_counts() -> None:
    assert format_watts(41.2) == "41.2 W"
    assert format_watts(None) == "?"
    assert [format_count(count) for count in (None, 0, 1204, 40_213, 131_072)] == ["?", "0", "1,204", "40.2k", "131k"]


def test_a_share_is_never_rounded_to_nothing_or_to_all() -> None:
    assert [format_ratio(ratio) for ratio in (None, 0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "?",
        "0 %",
        "<1 %",
        "50 %",
        ">99 %",
        "100 %",
    ]


def test_times() -> None:
    assert [format_seconds(seconds) for seconds in (None, 0.021, 1.31, 12.34, 75)] == [
        "?",
        "21 ms",
        "1.31 s",
        "12.3 s",
        "1 min",
    ]
    assert [format_age(seconds) for seconds in (None, -1, 7, 200, 3725, 100_000)] == [
        "?",
        "0 s",
        "7 s",
        "3 min",
        "1 h 02 min",
        "1 d 3 h",
    ]


@given(st.floats(min_value=0, max_value=1e14))
def test_any_energy_is_a_few_characters(joules: float) -> None:
    assert len(format_joules(joules)) <= len("<0.0001 J")
    assert format_joules(joules).startswith("0 ") == (joules == 0)
