"""Learning what a step's energy is spent on, and sharing a step out by it."""

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.step_cost import StepCostModel, StepWeights

BASE, PER_PREFILL, PER_SEQUENCE, PER_CONTEXT = 2.0, 0.004, 0.03, 2e-5


def joules(tokens: int, sequences: int, context: int) -> float:
    return BASE + PER_PREFILL * tokens + PER_SEQUENCE * sequences + PER_CONTEXT * context


def taught(steps: int, noise: float = 0.0, *, mixed_only: bool = False, scale: float = 1.0) -> StepCostModel:
    """Traffic as an engine under load has it: mostly decode, every fourth step with a chunk of a prompt."""
    model, rng = StepCostModel(), random.Random(7)
    for step in range(steps):
        sequences = rng.randint(1, 64)
        context = sequences * rng.randint(50, 4_000)
        tokens = rng.randint(1, 2048) if step % 4 == 0 or mixed_only else 0
        model.learn(
            tokens, sequences, context, scale * joules(tokens, sequences, context) * rng.uniform(1 - noise, 1 + noise)
        )
    return model


def prefill_ratio(weights: StepWeights) -> float:
    return (weights.prefill_base + weights.prefill_tokens) / sum(weights.as_tuple())


def expected_ratio(tokens: int, heads: int, sequences: int, context: int) -> float:
    prefill = BASE * heads / (heads + sequences) + PER_PREFILL * tokens
    return prefill / joules(tokens, sequences, context)


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 0.02), (0.2, 0.1)])
@pytest.mark.parametrize("mixed_only", [False, True])
@pytest.mark.parametrize(("tokens", "heads", "sequences"), [(512, 1, 8), (64, 2, 32), (2048, 3, 64)])
def test_a_linear_cost_is_learned(
    noise: float, tolerance: float, *, mixed_only: bool, tokens: int, heads: int, sequences: int
) -> None:
    context = sequences * 1_000
    weights = taught(2_000, noise, mixed_only=mixed_only).weights(tokens, heads, 0, sequences, context)
    assert prefill_ratio(weights) == pytest.approx(expected_ratio(tokens, heads, sequences, context), rel=tolerance)


def test_the_cost_of_context_is_learned() -> None:
    weights = taught(2_000, 0.05).weights(0, 0, 0, 16, 64_000)
    share = PER_CONTEXT * 64_000 / joules(0, 16, 64_000)
    assert weights.decode_context / sum(weights.as_tuple()) == pytest.approx(share, rel=0.1)


def test_a_changed_cost_is_learned_anew() -> None:
    model, rng = taught(1_000), random.Random(3)
    for _ in range(12_000):
        tokens, sequences = rng.choice((0, 0, rng.randint(1, 1_000))), rng.randint(1, 64)
        model.learn(tokens, sequences, sequences * 500, 3.0 + 0.02 * tokens + 0.01 * sequences)
    weights = model.weights(512, 1, 0, 31, 31 * 500)
    expected = (3.0 / 32 + 0.02 * 512) / (3.0 + 0.02 * 512 + 0.31)
    assert prefill_ratio(weights) == pytest.approx(expected, rel=0.05)


def test_what_is_told_does_not_depend_on_the_unit() -> None:
    small = taught(500, 0.1, scale=1e-6).weights(100, 1, 0, 10, 5_000).as_tuple()
    large = taught(500, 0.1, scale=1e6).weights(100, 1, 0, 10, 5_000).as_tuple()
    assert [value * 1e12 for value in small] == pytest.approx(large)


def test_a_fixed_cost_is_shared_by_head() -> None:
    model = StepCostModel()
    for _ in range(2_000):
        model.learn(10, 3, 3, 5.0)
        model.learn(500, 9, 9, 5.0)
        model.learn(0, 40, 40, 5.0)
    weights = model.weights(200, 1, 0, 3, 3)
    assert prefill_ratio(weights) == pytest.approx(0.25, rel=0.05)


def test_recomputed_tokens_cost_what_prompt_tokens_do() -> None:
    weights = taught(2_000).weights(300, 1, 150, 8, 800)
    assert weights.recompute == pytest.approx(weights.prefill_tokens / 2)


@pytest.mark.parametrize("steps", [0, 1, 500])
def test_a_pure_step_is_not_split(steps: int) -> None:
    model = taught(steps)
    prefill, decode = model.weights(100, 1, 0, 0, 0), model.weights(0, 0, 0, 5, 500)
    assert prefill.prefill_base + prefill.prefill_tokens > 0
    assert (prefill.decode_each, prefill.decode_context) == (0, 0)
    assert decode.decode_each > 0
    assert (decode.prefill_base, decode.prefill_tokens) == (0, 0)


def test_decode_alone_teaches_nothing_of_prefill() -> None:
    """One kind of step for long: the belief about the other kind stays in proportion and does not run away."""
    model = StepCostModel()
    for _ in range(20_000):
        model.learn(0, 8, 4_000, 1.0)
    weights = model.weights(256, 1, 0, 8, 4_000)
    assert 0.2 < prefill_ratio(weights) < 0.8


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 256), st.integers(0, 10**6), st.floats(0, 1e6)), max_size=60
    ),
    st.tuples(st.integers(0, 100_000), st.integers(0, 8), st.integers(0, 100), st.integers(0, 1024)),
)
def test_no_weight_is_ever_negative_or_unbounded(
    steps: list[tuple[int, int, int, float]], asked: tuple[int, int, int, int]
) -> None:
    model = StepCostModel()
    for step in steps:
        model.learn(*step)
    weights = model.weights(*asked, 1_000).as_tuple()
    assert min(weights) >= 0
    assert sum(weights) < float("inf")


LESSONS = st.lists(
    st.tuples(st.integers(0, 4_000), st.integers(0, 64), st.integers(0, 100_000), st.floats(0.001, 5_000)), max_size=12
)


@example([(1_600, 0, 0, 1_900.0), (100, 21, 1_700, 120.0), (200, 22, 1_900, 230.0)], 25)
@given(LESSONS, st.integers(1, 256))
def test_a_step_is_never_nobodys(lessons: list[tuple[int, int, int, float]], sequences: int) -> None:
    model = StepCostModel()
    for lesson in lessons:
        model.learn(*lesson)
    decode, prefill = model.weights(0, 0, 0, sequences, 0), model.weights(sequences, 1, 0, 0, 0)
    assert decode.decode_each + decode.decode_context > 0
    assert decode.prefill_base + decode.prefill_tokens == 0
    assert prefill.prefill_base + prefill.prefill_tokens > 0
    assert prefill.decode_each + prefill.decode_context == 0
