"""Largest remainders: the parts add up, and none is far from its due."""

from hypothesis import given
from hypothesis import strategies as st

from metering.apportionment import apportion

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=6)


@given(st.integers(0, 10**12), WEIGHTS)
def test_parts_add_up_and_are_within_one_of_their_due(amount: int, weights: list[float]) -> None:
    parts = apportion(amount, weights)
    assert sum(parts) == amount
    assert min(parts) >= 0
    total = sum(weights)
    if total > 0:
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - amount * (weight / total)) <= 1.001


@given(st.integers(0, 2**70), WEIGHTS)
def test_parts_add_up_however_large_the_amount(amount: int, weights: list[float]) -> None:
    parts = apportion(amount, weights)
    assert sum(parts) == amount
    assert min(parts) >= 0


def test_the_largest_remainders_get_what_is_left() -> None:
    assert apportion(10, (1.0, 1.0, 1.0)) == [4, 3, 3]
    assert apportion(5, (0.0, 1.0, 3.0)) == [0, 1, 4]
    assert apportion(7, (0.0, 0.0)) == [7, 0]
