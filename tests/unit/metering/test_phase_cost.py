"""Learning what prefill and decode cost, and splitting a mixed step by it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.phase_cost import PhaseCostModel


def prefill_joules(tokens: int) -> float:
    return 2.0 + 0.03 * tokens


def decode_joules(sequences: int) -> float:
    return 1.5 + 0.02 * sequences


def taught(steps: int, noise: float = 0.0) -> PhaseCostModel:
    model, rng = PhaseCostModel(), random.Random(7)
    for _ in range(steps):
        tokens, sequences = rng.randint(1, 2048), rng.randint(1, 64)
        model.learn(tokens, 0, prefill_joules(tokens) * rng.uniform(1 - noise, 1 + noise))
        model.learn(0, sequences, decode_joules(sequences) * rng.uniform(1 - noise, 1 + noise))
    return model


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize(("tokens", "sequences"), [(512, 8), (64, 32), (2048, 64), (1500, 1)])
def test_a_linear_cost_is_learned_within_five_percent(noise: float, tokens: int, sequences: int) -> None:
    expected = prefill_joules(tokens) / (prefill_joules(tokens) + decode_joules(sequences))
    assert taught(400, noise).prefill_ratio(tokens, sequences) == pytest.approx(expected, rel=0.05)


def test_a_changed_cost_is_learned_anew() -> None:
    model = taught(1_500)
    for step in range(5_000):
        model.learn(1 + step % 1000, 0, prefill_joules(1 + step % 1000) / 4)
    expected = prefill_joules(64) / (prefill_joules(64) + 4 * decode_joules(64))
    assert model.prefill_ratio(64, 64) == pytest.approx(expected, rel=0.05)


def test_before_anything_is_known_tokens_decide() -> None:
    assert PhaseCostModel().prefill_ratio(30, 10) == pytest.approx(0.75)


def test_mixed_steps_teach_nothing() -> None:
    model = PhaseCostModel()
    for _ in range(50):
        model.learn(100, 10, 1e6)
    assert model.prefill_ratio(30, 10) == pytest.approx(0.75)


@pytest.mark.parametrize(("tokens", "sequences", "ratio"), [(5, 0, 1.0), (0, 5, 0.0), (0, 0, 0.0)])
def test_a_pure_step_is_not_split(tokens: int, sequences: int, ratio: float) -> None:
    assert taught(50).prefill_ratio(tokens, sequences) == ratio


def test_steps_that_cost_nothing_are_split_evenly() -> None:
    model = PhaseCostModel()
    for tokens in range(1, 20):
        model.learn(tokens, 0, 0.0)
        model.learn(0, tokens, 0.0)
    assert model.prefill_ratio(10, 10) == 0.5


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 256), st.floats(0, 1e6)), max_size=40),
    st.integers(0, 100_000),
    st.integers(0, 1024),
)
def test_the_ratio_lies_between_zero_and_one(steps: list[tuple[int, int, float]], tokens: int, sequences: int) -> None:
    model = PhaseCostModel()
    for step in steps:
        model.learn(*step)
    assert 0.0 <= model.prefill_ratio(tokens, sequences) <= 1.0
