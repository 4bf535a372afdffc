"""Bars and curves show what there is, and a gap where nothing is known."""

from hypothesis import given
from hypothesis import strategies as st

from server.top.bars import bar, curve


def test_bars() -> None:
    assert bar(0.0, 4) == "    "
    assert bar(0.5, 4) == "██  "
    assert bar(0.53, 4) == "██▏ "
    assert bar(1.0, 4) == "████"
    assert bar(None, 4) == "····"
    assert bar(0.0001, 4) == "▏   ", "a little is not nothing"


def test_a_curve_ends_at_the_right_and_begins_at_nothing() -> None:
    assert curve([1.0, 2.0], 4, 2) == ["   █", "  ██"]
    assert curve([4.0, 1.0, 2.0], 2, 1) == ["▄█"]
    assert curve([], 3, 2) == ["   ", "   "]


def test_what_is_not_known_is_a_gap_and_nothing_is_not() -> None:
    assert curve([2.0, None, 0.0], 3, 2) == ["█  ", "█·▁"]
    assert curve([0.0, 0.0], 2, 1) == ["▁▁"]


@given(st.lists(st.none() | st.floats(min_value=0, max_value=1e6)), st.integers(1, 80), st.integers(1, 8))
def test_a_curve_is_as_large_as_asked(samples: list[float | None], width: int, height: int) -> None:
    lines = curve(samples, width, height)
    assert [len(line) for line in lines] == [width] * height


@given(st.none() | st.floats(min_value=0, max_value=2), st.integers(1, 80))
def test_so_is_a_bar(ratio: float | None, width: int) -> None:
    assert len(bar(ratio, width)) == width
