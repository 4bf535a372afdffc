"""The truth that attribution is judged by: the power model against measured points, Shapley values against axioms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.attribution import shapley
from bench.attribution.power_model import BatchWork, PowerModel
from bench.attribution.presets import (
    CPU_135M,
    CPU_POINTS,
    CPU_POINTS_CORES,
    H100_8B,
    H100_POINTS,
    H100_POINTS_CONTEXT_TOKENS,
    PRESETS,
    ServingPoint,
)
from bench.attribution.shapley import shapley_values
from bench.attribution.trace import BatchMembers

ROUNDING = 1e-9


def work(sequences: float, tokens: float, context: float) -> BatchWork:
    return BatchWork(*(np.asarray(each, dtype=float) for each in (sequences, tokens, context, context)))


def members(tokens: list[int], context: list[int]) -> BatchMembers:
    asked, held = np.array(tokens, dtype=float), np.array(context, dtype=float)
    return BatchMembers(
        requests=tuple(range(len(tokens))),
        in_prefill=tuple(n > 1 for n in tokens),
        tokens=asked,
        attended_pairs=asked * held,
        context_tokens=held + asked,
    )


def step_joules(model: PowerModel, batch: BatchMembers, chosen: tuple[int, ...]) -> float:
    index = list(chosen)
    return float(
        model.joules(
            BatchWork(
                np.asarray(float(len(chosen))),
                batch.tokens[index].sum(),
                batch.attended_pairs[index].sum(),
                batch.context_tokens[index].sum(),
            )
        )
    )


BATCHES = st.lists(st.tuples(st.sampled_from([1, 1, 1, 40, 700]), st.integers(0, 8000)), min_size=1, max_size=16).map(
    lambda drawn: members([tokens for tokens, _ in drawn], [context for _, context in drawn])
)
MODELS = st.sampled_from([preset.power for preset in PRESETS.values()])


@pytest.mark.parametrize("point", H100_POINTS)
def test_the_h100_is_within_four_percent_of_the_public_measurements(point: ServingPoint) -> None:
    n = point.sequences
    seconds, watts = H100_8B.power.seconds_and_watts(work(n, n, n * H100_POINTS_CONTEXT_TOKENS))
    assert float(seconds) == pytest.approx(point.inter_token_seconds, rel=0.04)
    assert float(watts) == pytest.approx(point.power_watts, rel=0.04)


@pytest.mark.parametrize(("sequences", "cpu_milliseconds"), CPU_POINTS)
def test_the_cpu_is_within_a_quarter_of_what_was_measured(sequences: int, cpu_milliseconds: float) -> None:
    seconds, _ = CPU_135M.power.seconds_and_watts(work(sequences, sequences, sequences * 100))
    assert float(seconds) == pytest.approx(sequences * cpu_milliseconds / 1000 / CPU_POINTS_CORES, rel=0.25)


def test_power_stays_between_idle_and_the_limit() -> None:
    for preset in PRESETS.values():
        for tokens in (1, 100, preset.token_budget):
            _, watts = preset.power.seconds_and_watts(work(1, tokens, 4000))
            assert preset.power.idle_watts < float(watts) <= preset.power.max_watts


def test_no_linear_model_fits_the_energy_of_a_step() -> None:
    """The prompt that joins a decode step costs less than the same prompt alone, which pays for the weights as well."""
    decode, prompt, both = (
        float(H100_8B.power.joules(work(n, tokens, context)))
        for n, tokens, context in ((16, 16, 8000), (1, 500, 500), (17, 516, 8500))
    )
    assert both < 0.85 * (decode + prompt)
    alone, doubled = (float(H100_8B.power.joules(work(1, tokens, tokens))) for tokens in (100, 200))
    assert doubled < 1.5 * alone


@given(MODELS, BATCHES, st.integers(0, 9))
@settings(max_examples=60)
def test_shapley_values_make_up_the_energy_of_the_step(model: PowerModel, batch: BatchMembers, seed: int) -> None:
    values = shapley_values(model, batch, np.random.default_rng(seed))
    whole = step_joules(model, batch, tuple(range(len(batch.requests))))
    assert float(values.joules.sum()) == pytest.approx(whole, rel=ROUNDING)
    assert values.joules.min() > 0
    assert values.variance.min() >= 0


@pytest.mark.parametrize("model", [preset.power for preset in PRESETS.values()])
def test_exact_values_are_the_mean_over_all_orders(model: PowerModel) -> None:
    batch = members([1, 1, 300, 40], [90, 4000, 0, 900])
    expected = np.zeros(4)
    orders = list(itertools.permutations(range(4)))
    for order in orders:
        for position, player in enumerate(order):
            before = step_joules(model, batch, order[:position]) if position else 0.0
            expected[player] += step_joules(model, batch, order[: position + 1]) - before
    values = shapley_values(model, batch, np.random.default_rng(0))
    assert values.joules == pytest.approx(expected / len(orders), rel=ROUNDING)
    assert not values.variance.any()


def test_sequences_alike_pay_alike_and_one_alone_pays_all() -> None:
    model = H100_8B.power
    alike = shapley_values(model, members([1] * 6, [500] * 6), np.random.default_rng(0)).joules
    assert alike == pytest.approx([alike[0]] * 6, rel=ROUNDING)
    alone = members([700], [0])
    assert float(shapley_values(model, alone, np.random.default_rng(0)).joules[0]) == pytest.approx(
        step_joules(model, alone, (0,)), rel=ROUNDING
    )


@pytest.mark.parametrize("seed", range(4))
def test_sampled_values_are_within_their_error_of_the_exact_ones(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = members([1] * 8 + [60, 500, 900], [100, 200, 300, 400, 500, 600, 9000, 15000, 0, 0, 1200])
    exact = shapley_values(H100_8B.power, batch, np.random.default_rng(seed))
    monkeypatch.setattr(shapley, "_EXACT_PLAYERS", 0)
    sampled = shapley_values(H100_8B.power, batch, np.random.default_rng(seed))
    assert sampled.joules == pytest.approx(exact.joules, rel=0.06)
    missed = np.abs(sampled.joules - exact.joules)
    assert (missed <= 5 * np.sqrt(sampled.variance) + ROUNDING).all()
    assert float(missed.sum() / exact.joules.sum()) < 0.02
