"""What is learned of an engine whose costs are known, and what is believed of one that talks nonsense."""

from dataclasses import replace
from math import inf, log, nan
from random import Random
from typing import Any

import pytest

from scheduler.events import WorkReport
from scheduler.hardware import hardware_class
from scheduler.worker_model import WorkerModel
from tests.unit.scheduler.known_engine import KnownEngine


def model_of(hardware: str = "h100", *, start_seconds: float | None = None) -> WorkerModel:
    model = WorkerModel(hardware)
    model.begin(0.0, start_seconds)
    return model


def watched(
    engine: KnownEngine, batches: list[int], *, prefill_tokens: int = 0, hardware: str = "h100", noise: float = 0.0
) -> WorkerModel:
    """A model that was told once a second what the engine did; `batches` are those of each second."""
    model, random = model_of(hardware), Random(1)
    model.observe(engine.totals, 0, 0.0)
    for second, batch in enumerate(batches, start=1):
        # Where there are prompts, they come and go.
        tokens = prefill_tokens * random.randrange(3) // 2
        work = engine.work(1.0, batch, prefill_tokens=tokens, noise_ratio=random.gauss(1.0, noise))
        model.observe(work, batch, float(second))
    return model


@pytest.mark.parametrize("hardware", ["h100", "a100", "b200", "unknown"])
@pytest.mark.parametrize("batch", [1, 8, 100])
def test_at_a_steady_load_steps_and_watts_are_learned_from_any_gpus_prior(hardware: str, batch: int) -> None:
    engine = KnownEngine()
    model = watched(engine, [batch] * 60, hardware=hardware, noise=0.05)
    assert model.steps.at(batch) == pytest.approx(engine.step_seconds(batch), rel=0.05)
    assert model.power.at(batch) == pytest.approx(engine.watts(batch), rel=0.05)
    assert model.is_known


def test_a_prior_a_hundredfold_off_is_mended_within_minutes() -> None:
    engine = KnownEngine()
    model = watched(engine, [8] * 300, hardware="cpu", noise=0.05)
    assert model.power.at(8) == pytest.approx(engine.watts(8), rel=0.05)


def test_at_a_changing_load_the_whole_curve_is_learned() -> None:
    engine, random = KnownEngine(), Random(2)
    model = watched(engine, [random.choice([1, 4, 16, 64]) for _ in range(300)], noise=0.05)
    for batch in (1, 4, 16, 64):
        assert model.steps.at(batch) == pytest.approx(engine.step_seconds(batch), rel=0.08)
        assert model.watts(batch) == pytest.approx(engine.watts(batch), rel=0.08)


@pytest.mark.parametrize("hardware", ["h100", "a100", "unknown"])
def test_prompts_among_decoding_are_told_apart_from_it(hardware: str) -> None:
    engine = KnownEngine()
    model = watched(engine, [16] * 300, prefill_tokens=4000, hardware=hardware)
    prior_error = abs(log(hardware_class(hardware).prefill_token_seconds / engine.prefill_token_seconds))
    error = abs(log(model.prefill_token_seconds / engine.prefill_token_seconds))
    assert error < max(0.2, prior_error / 3)
    assert model.steps.at(16) == pytest.approx(engine.step_seconds(16), rel=0.1)


def test_an_idle_engine_tells_what_idling_draws() -> None:
    engine = KnownEngine(idle_watts=55.0)
    model = watched(engine, [0] * 30)
    assert model.idle_watts == pytest.approx(55.0, rel=0.01)
    assert model.watts(0) == model.idle_watts


def test_an_engine_that_hangs_says_nothing_of_idling() -> None:
    engine = KnownEngine(idle_watts=55.0)
    model = watched(engine, [0] * 30)
    for second in range(31, 41):
        model.observe(engine.totals, 3, float(second))
    assert model.idle_watts == pytest.approx(55.0, rel=0.01)


def test_power_is_that_of_the_busy_part_of_a_second() -> None:
    engine, model = KnownEngine(), model_of()
    model.observe(engine.totals, 0, 0.0)
    for second in range(1, 121):
        if second % 2:
            model.observe(engine.work(1.0, 8, busy_ratio=0.7), 8, float(second))
        else:
            model.observe(engine.work(1.0, 0), 0, float(second))
    assert model.power.at(8) == pytest.approx(engine.watts(8), rel=0.05)
    assert model.idle_watts == pytest.approx(engine.idle_watts, rel=0.05)


def test_running_never_draws_less_than_idling() -> None:
    model = watched(KnownEngine(idle_watts=800.0), [0] * 60)
    assert model.watts(1) >= model.watts(0)


def test_reports_that_come_too_often_are_taken_together() -> None:
    engine, model = KnownEngine(), model_of()
    model.observe(engine.totals, 0, 0.0)
    for tick in range(1, 1001):
        model.observe(engine.work(0.05, 8), 8, tick * 0.05)
    assert model.steps.at(8) == pytest.approx(engine.step_seconds(8), rel=0.05)
    assert model.power.at(8) == pytest.approx(engine.watts(8), rel=0.2)
    assert model.stretches <= 1000 * 0.05 / 0.2


def test_a_start_costs_what_was_measured_less_what_the_bare_hardware_would_have_drawn() -> None:
    model = model_of(start_seconds=30.0)
    model.observe(WorkReport(0, 0.0, 0, 0, 5000.0, 5000.0), 0, 0.0)
    assert model.start_seconds == 30.0
    assert model.start_joules == pytest.approx(5000.0 - 30.0 * model.parked_watts)


def test_a_start_is_reckoned_for_as_long_as_the_meter_saw_it() -> None:
    model = model_of(start_seconds=60.0)
    model.observe(WorkReport(0, 0.0, 0, 0, 4000.0, 4000.0, loading_seconds=40.0), 0, 0.0)
    assert model.start_joules == pytest.approx(4000.0 - 40.0 * model.parked_watts)
    assert model.start_joules > 0


def test_a_start_nobody_timed_keeps_what_is_believed_of_the_hardware() -> None:
    model = model_of()
    model.observe(WorkReport(0, 0.0, 0, 0, 5000.0, 5000.0), 0, 0.0)
    prior = hardware_class("h100")
    assert (model.start_seconds, model.start_joules) == (prior.start_seconds, prior.start_joules)


@pytest.mark.parametrize("seconds", [0.0, -1.0, inf, nan])
def test_a_start_of_impossible_length_is_not_believed(seconds: float) -> None:
    assert model_of(start_seconds=seconds).start_seconds == hardware_class("h100").start_seconds


def test_an_engine_that_was_restarted_begins_anew_and_what_was_learned_stays() -> None:
    engine = KnownEngine()
    model = watched(engine, [8] * 60)
    learned = model.steps.at(8), model.power.at(8), model.stretches
    again = KnownEngine()
    model.observe(again.work(1.0, 8), 8, 61.0)
    assert (model.steps.at(8), model.power.at(8), model.stretches) == learned
    assert model.trouble is None
    assert model.is_trusted(61.0)
    model.observe(again.work(1.0, 8), 8, 62.0)
    assert model.stretches == learned[2] + 1
    assert model.steps.at(8) == pytest.approx(engine.step_seconds(8), rel=0.05)


@pytest.mark.parametrize("field", ["steps", "step_seconds", "decode_tokens", "prefill_tokens", "energy_joules"])
def test_any_total_that_falls_is_a_restart(field: str) -> None:
    model, full = model_of(), WorkReport(100, 3.0, 800, 900, 1000.0)
    model.observe(full, 8, 1.0)
    risen = WorkReport(200, 6.0, 1600, 1800, 2000.0)
    fallen: dict[str, Any] = {field: 0.5 if field.endswith(("seconds", "joules")) else 1}
    model.observe(replace(risen, **fallen), 8, 2.0)
    assert model.stretches == 0
    assert model.trouble is None


@pytest.mark.parametrize(
    "change",
    [
        {"steps": -1},
        {"step_seconds": nan},
        {"step_seconds": inf},
        {"decode_tokens": -5},
        {"prefill_tokens": -5},
        {"energy_joules": nan},
        {"energy_joules": -1.0},
        {"loading_joules": inf},
        {"kv_cache_usage_ratio": 1.5},
        {"kv_cache_usage_ratio": nan},
        {"steps": 5, "step_seconds": 0.0},
    ],
)
def test_nonsense_is_named_and_teaches_nothing(change: dict[str, Any]) -> None:
    model, engine = model_of(), KnownEngine()
    model.observe(engine.work(1.0, 8), 8, 1.0)
    before = model.steps.at(8), model.power.at(8), model.idle_watts, model.prefill_token_seconds
    model.observe(replace(engine.work(1.0, 8), **change), 8, 2.0)
    assert model.trouble is not None
    assert next(iter(change)) in model.trouble or "steps are said" in model.trouble
    assert not model.is_trusted(2.0)
    assert (model.steps.at(8), model.power.at(8), model.idle_watts, model.prefill_token_seconds) == before


def test_an_engine_that_talks_sense_again_is_trusted_again() -> None:
    model, engine = model_of(), KnownEngine()
    model.observe(replace(engine.work(1.0, 8), steps=-1), 8, 1.0)
    model.observe(engine.work(1.0, 8), 8, 2.0)
    assert model.is_trusted(2.0)
    assert model.trouble is None


def test_a_worker_that_is_silent_is_not_trusted_after_ten_seconds() -> None:
    model = model_of()
    assert model.is_trusted(10.0)
    assert not model.is_trusted(10.1)
    model.observe(KnownEngine().totals, 0, 20.0)
    assert model.is_trusted(30.0)
    assert not model.is_trusted(30.1)


def test_a_worker_that_never_was_ready_is_not_trusted() -> None:
    assert not WorkerModel("h100").is_trusted(0.0)


def test_a_report_without_work_is_silence() -> None:
    model = model_of()
    model.observe(None, 3, 9.0)
    assert not model.is_trusted(10.1)


def test_a_worker_that_runs_requests_without_progress_is_not_trusted_after_ten_seconds() -> None:
    model, engine = model_of(), KnownEngine()
    stuck = engine.work(1.0, 8)
    for second in range(1, 13):
        model.observe(stuck, 8, float(second))
        assert model.is_trusted(second) == (second <= 11), second
    model.observe(engine.work(1.0, 8), 8, 13.0)
    assert model.is_trusted(13.0)


def test_a_worker_with_nothing_to_run_need_not_show_progress() -> None:
    model = model_of()
    for second in range(60):
        model.observe(WorkReport(5, 0.1, 5, 5), 0, float(second))
    assert model.is_trusted(59.0)


def test_a_new_generation_keeps_what_was_learned_and_forgets_what_was_told() -> None:
    engine = KnownEngine()
    model = watched(engine, [8] * 60)
    model.observe(replace(engine.work(1.0, 8), kv_cache_usage_ratio=0.97), 8, 61.0)
    assert model.kv_cache_usage_ratio == 0.97
    model.begin(100.0, 25.0)
    assert model.kv_cache_usage_ratio == 0.0
    assert model.steps.at(8) == pytest.approx(engine.step_seconds(8), rel=0.05)
    stretches = model.stretches
    model.observe(KnownEngine().work(300.0, 8), 8, 101.0)  # its totals are greater than the last one's by chance
    assert model.stretches == stretches


def test_idling_is_worth_as_much_as_a_start_costs() -> None:
    model = model_of()
    idle_joules = model.worthwhile_idle_seconds * (model.idle_watts - model.parked_watts)
    assert idle_joules == pytest.approx(model.start_joules)


@pytest.mark.parametrize("idle_watts", [50.0, 10.0])
def test_where_parking_saves_nothing_idling_is_worth_it_for_ever(idle_watts: float) -> None:
    model = model_of()
    model.parked_watts, model.idle_watts = 50.0, idle_watts
    assert model.worthwhile_idle_seconds == inf


def test_within_the_stall_budget_a_short_answer_keeps_its_mean_time_between_tokens() -> None:
    model, target_seconds, output_tokens = model_of("a100"), 0.05, 200.0
    decode_seconds = model.steps.at(16)
    chunk_seconds = decode_seconds + 2048 * model.prefill_token_seconds
    slow_steps = model.stall_budget_seconds(16, output_tokens, target_seconds) / chunk_seconds
    steps = output_tokens / 4
    mean_seconds = (slow_steps * chunk_seconds + (steps - slow_steps) * decode_seconds) / steps
    assert mean_seconds == pytest.approx(target_seconds)


def test_the_stall_budget_has_no_end_where_prompts_do_no_harm_or_the_target_is_missed_anyway() -> None:
    model = model_of("a100")
    assert model.stall_budget_seconds(16, 200.0, 1.0) == inf
    assert model.stall_budget_seconds(16, 200.0, model.steps.at(16) / 2) == inf


def test_a_prompt_takes_longer_among_more_sequences() -> None:
    model = model_of()
    alone, among = model.prefill_seconds(10_000, 0), model.prefill_seconds(10_000, 200)
    assert 10_000 * model.prefill_token_seconds < alone < among
