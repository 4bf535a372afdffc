"""The learned curve never falls, follows what it is told, and is not led astray."""

from itertools import pairwise
from math import inf, log, nan
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scheduler.curve import MonotoneCurve

BATCHES = [0.0, 0.5, *range(1, 300), 511.5, 512, 513, 1023, 1024, 1025, 4096]
KNOTS = [1 << power for power in range(11)]

positive = st.floats(1e-9, 1e9)
anything = st.floats(allow_nan=True, allow_infinity=True)
observations = st.lists(
    st.tuples(
        st.floats(0.01, 5000) | anything,
        st.floats(1e-4, 1.0) | positive | st.just(nan) | st.just(inf) | st.just(-1.0) | st.just(0.0),
        st.floats(0.01, 1.0) | st.just(0.0) | st.just(-1.0) | st.just(nan),
    ),
    max_size=40,
)
property_settings = settings(deadline=None, max_examples=60)


def prior(batch: float) -> float:
    return 0.007 + 0.0001 * batch


def truth(batch: float) -> float:
    return 0.030 + 0.0012 * batch


def taught(*seen: tuple[float, float, float]) -> MonotoneCurve:
    curve = MonotoneCurve(prior)
    for batch, value, weight in seen:
        curve.observe(batch, value, weight)
    return curve


def test_before_it_has_seen_anything_it_is_the_prior() -> None:
    curve = MonotoneCurve(prior)
    assert [curve.at(batch) for batch in (1, 3, 100, 1024, 2000)] == pytest.approx(
        [prior(batch) for batch in (1, 3, 100, 1024, 2000)]
    )
    assert curve.at(0) == curve.at(1)


@property_settings
@given(observations)
def test_it_never_falls_and_stays_above_zero_whatever_was_observed(seen: list[tuple[float, float, float]]) -> None:
    curve = taught(*seen)
    values = [curve.at(batch) for batch in BATCHES]
    assert all(0 < value < inf for value in values)
    assert all(left <= right * (1 + 1e-9) for left, right in pairwise(values))


@property_settings
@given(st.floats(0.01, 5000), positive)
@example(1.0, 1e9)
@example(1024.0, 1e-9)
def test_one_observation_moves_it_fourfold_at_most(batch: float, value: float) -> None:
    curve = taught((batch, value, 1.0))
    assert all(1 / 4.001 <= curve.at(knot) / prior(knot) <= 4.001 for knot in KNOTS)


@property_settings
@given(st.floats(1.0, 1024.0), positive)
@example(1.0, 1e9)
@example(1024.0, 1e-9)
def test_what_is_well_known_is_hardly_moved_by_one_absurd_reading(batch: float, value: float) -> None:
    known = [(float(knot), prior(knot), 1.0) for knot in KNOTS] * 30
    curve = taught(*known, (batch, value, 1.0))
    assert [curve.at(knot) / prior(knot) for knot in KNOTS] == pytest.approx([1.0] * len(KNOTS), rel=0.07)


@property_settings
@given(batch=anything, value=anything, weight=anything)
def test_what_is_no_positive_finite_number_teaches_nothing(batch: float, value: float, weight: float) -> None:
    curve = MonotoneCurve(prior)
    curve.observe(batch, -abs(value), weight)
    curve.observe(batch, nan, weight)
    curve.observe(batch, inf, weight)
    curve.observe(nan, 0.1, weight)
    curve.observe(inf, 0.1, weight)
    curve.observe(-abs(batch), 0.1, weight)
    curve.observe(1.0, 0.1, -abs(weight))
    assert [curve.at(one) for one in BATCHES] == [MonotoneCurve(prior).at(one) for one in BATCHES]


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_from_a_wrong_prior_it_comes_within_a_few_percent_of_what_is_observed(scale: float, seed: int) -> None:
    random = Random(seed)
    curve = MonotoneCurve(lambda batch: scale * truth(batch / 4))
    for _ in range(400):
        batch = 2 ** random.uniform(0, 7)
        curve.observe(batch, truth(batch) * random.gauss(1.0, 0.05))
    errors = [abs(log(curve.at(batch) / truth(batch))) for batch in (1, 2, 4, 8, 16, 24, 32, 48, 64, 100, 128)]
    assert max(errors) < 0.15
    assert sum(errors) / len(errors) < 0.05


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_where_nothing_was_seen_the_prior_keeps_its_shape_and_follows_the_scale_of_what_was(scale: float) -> None:
    curve = taught(*[(8.0, scale * prior(8), 1.0)] * 100)
    followed = [log(curve.at(knot) / prior(knot)) / log(scale) for knot in KNOTS]
    assert followed[3] == pytest.approx(1.0, abs=0.02)
    assert all(ratio > 0.9 for ratio in followed[1:6])
    assert all(0.5 < ratio < 1.02 for ratio in followed)


def test_one_absurd_reading_among_many_good_ones_is_little() -> None:
    curve = taught(*[(8.0, prior(8), 1.0)] * 100, (8.0, 1e6, 1.0))
    assert curve.at(8) == pytest.approx(prior(8), rel=0.06)


def test_it_forgets_an_engine_that_has_changed() -> None:
    curve = taught(*[(8.0, prior(8), 1.0)] * 1000, *[(8.0, 2 * prior(8), 1.0)] * 100)
    assert curve.at(8) == pytest.approx(2 * prior(8), rel=0.1)


def test_observations_that_fall_with_the_batch_become_level() -> None:
    curve = taught(*[(1.0, 0.02, 1.0), (64.0, 0.01, 1.0)] * 50)
    assert curve.at(1) == pytest.approx(curve.at(64), rel=0.02)
    assert 0.01 < curve.at(1) < 0.02


@property_settings
@given(observations, st.floats(1e-4, 1.0), st.integers(1, 600))
@example([], prior(100), 600)
@example([], prior(1), 1)
def test_the_largest_batch_is_exact(seen: list[tuple[float, float, float]], bound: float, limit: int) -> None:
    curve = taught(*seen)
    within = [batch for batch in range(1, limit + 1) if curve.at(batch) <= bound]
    assert curve.largest_batch(bound, limit) == max(within, default=0)
