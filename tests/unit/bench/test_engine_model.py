"""The form of the GPU model: what must hold of any step of any engine."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.simulation.engine_model import EngineModel
from bench.simulation.presets import engine_model, engine_model_of_sizes

ENGINES = [
    engine_model("h100", "llama-3.1-8b"),
    engine_model("h100", "llama-3.1-70b"),
    engine_model("b200", "llama-3.1-8b"),
    engine_model("b200", "qwen3-8b"),
    engine_model("a100", "gemma-3-12b"),
    engine_model_of_sizes("h100", 30e9, 60e9, 98_304, gpus=2, active_parameters=3e9),
]
ROUNDING = 1e-9

engines = st.sampled_from(ENGINES)
counts = st.integers(0, 600)
contexts = st.integers(0, 4000)  # tokens per sequence
prompts = st.floats(0, 8192)


def joules(engine: EngineModel, sequences: float, context: float, prefill: float = 0.0) -> float:
    return engine.step_seconds(sequences, context, prefill) * engine.step_watts(sequences, context, prefill)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: f"{engine.hardware}-{engine.name}")
def test_an_engine_with_nothing_to_run_takes_no_time_and_idles(engine: EngineModel) -> None:
    assert engine.step_seconds(0, 0) == 0
    assert engine.step_watts(0, 0) == engine.idle_watts
    assert engine.parked_watts < engine.idle_watts < engine.limit_watts


@given(engines, counts, contexts, prompts, prompts)
def test_power_is_between_idle_and_the_limit_whatever_runs(
    engine: EngineModel, sequences: int, context: int, prefill: float, attended: float
) -> None:
    watts = engine.step_watts(sequences, sequences * context, prefill, prefill * attended)

    assert engine.idle_watts <= watts <= engine.limit_watts


@given(engines, st.integers(0, 2100), contexts, prompts)
def test_a_further_sequence_like_the_others_never_shortens_a_step(
    engine: EngineModel, sequences: int, context: int, prefill: float
) -> None:
    before = engine.step_seconds(sequences, sequences * context, prefill)

    assert engine.step_seconds(sequences + 1, (sequences + 1) * context, prefill) >= before * (1 - ROUNDING)


@given(engines, counts, contexts, prompts, st.floats(0, 4096))
def test_more_prompt_or_context_never_shortens_a_step(
    engine: EngineModel, sequences: int, context: int, prefill: float, added: float
) -> None:
    held = sequences * context
    before = engine.step_seconds(sequences, held, prefill, prefill * 100)

    assert engine.step_seconds(sequences, held + added, prefill, prefill * 100) >= before
    assert engine.step_seconds(sequences, held, prefill + added, prefill * 100) >= before
    assert engine.step_seconds(sequences, held, prefill, prefill * 100 + added) >= before


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: f"{engine.hardware}-{engine.name}")
def test_joules_per_token_fall_as_the_batch_grows(engine: EngineModel) -> None:
    per_token = [joules(engine, batch, 500 * batch) / batch for batch in (1, 2, 4, 8, 16, 32, 64, 128, 256)]

    assert per_token == sorted(per_token, reverse=True)


def test_the_last_token_of_a_long_prompt_costs_more_than_the_first() -> None:
    engine = ENGINES[0]

    short = engine.step_seconds(0, 0, 2048, 2048 * 1024)
    assert engine.step_seconds(0, 0, 2048, 2048 * 13_000) > 1.1 * short


def test_a_prompt_computes_at_a_rate_that_an_h100_is_known_to_reach() -> None:
    engine = engine_model("h100", "llama-3.1-8b")

    assert 25_000 < 2048 / engine.step_seconds(0, 0, 2048, 2048 * 1024) < 45_000
    assert engine.step_watts(0, 0, 2048, 2048 * 1024) > 0.9 * engine.limit_watts


def test_a_single_sequence_is_bound_by_reading_the_weights() -> None:
    engine = engine_model("h100", "llama-3.1-8b")

    assert 16.06e9 / 3.35e12 < engine.step_seconds(1, 500) < engine.step_seconds(8, 8 * 500)
    assert 300 < engine.step_watts(1, 500) < engine.step_watts(128, 128 * 500)


def test_a_mixture_of_experts_reads_few_weights_for_one_token_and_all_for_many() -> None:
    dense = engine_model_of_sizes("h100", 30e9, 60e9, 98_304, gpus=2)
    mixture = engine_model_of_sizes("h100", 30e9, 60e9, 98_304, gpus=2, active_parameters=3e9)
    same_costs = replace(mixture, untouched_ratio=0.0)

    assert mixture.step_seconds(1, 500) < 0.5 * dense.step_seconds(1, 500)
    assert mixture.step_seconds(256, 256 * 500) == pytest.approx(same_costs.step_seconds(256, 256 * 500))


def test_a_batch_beyond_what_was_measured_keeps_the_last_factor() -> None:
    engine = engine_model("b200", "llama-3.1-8b")

    assert engine.step_seconds(5000, 0) > engine.step_seconds(2048, 0)
