"""The margin follows the attainment: a tenth less at a miss, slowly more at every hit, never above 1."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.margin import Margin


def test_it_begins_with_all_that_predictions_may_use() -> None:
    assert Margin().ratio == 1.0


def test_a_miss_costs_more_than_a_hundred_hits_bring() -> None:
    margin = Margin()
    margin.observe(1.0, 2.0, is_met=False)
    assert margin.ratio < 1.0
    for _ in range(100):
        margin.observe(2.0, 3.0, is_met=True)
    assert margin.ratio < 1.0


def test_with_hits_alone_it_comes_back_and_stays_at_one() -> None:
    margin = Margin()
    margin.observe(1.0, 2.0, is_met=False)
    for _ in range(1000):
        margin.observe(2.0, 3.0, is_met=True)
    assert margin.ratio == 1.0


def test_misses_of_requests_that_were_placed_before_the_last_step_count_once() -> None:
    margin = Margin()
    margin.observe(1.0, 10.0, is_met=False)
    once = margin.ratio
    for _ in range(50):
        margin.observe(9.0, 11.0, is_met=False)
    assert margin.ratio == once
    margin.observe(10.0, 12.0, is_met=False)
    assert margin.ratio < once


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=200))
def test_it_never_leaves_its_bounds(ends: list[tuple[float, bool]]) -> None:
    margin = Margin()
    for number, (took_seconds, is_met) in enumerate(ends):
        margin.observe(number - took_seconds, float(number), is_met=is_met)
        assert 0.0 < margin.ratio <= 1.0
