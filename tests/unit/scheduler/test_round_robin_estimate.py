"""What round-robin would have spent, by workers whose costs are known."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.round_robin_estimate import WorkerSpan, round_robin_extra_joules
from scheduler.worker_model import WorkerModel

ELAPSED_SECONDS = 5.0


def model() -> WorkerModel:
    """An H100 as it is believed to be: 121.7 W idle, 71.8 W bare, 420 W with one sequence and up to 690."""
    return WorkerModel("h100")


def busy(of: WorkerModel, seconds: float, batch: float, *, is_awake: bool = True) -> WorkerSpan:
    steps = round(seconds / of.steps.at(batch))
    return WorkerSpan(of, is_awake, steps, steps * of.steps.at(batch), round(steps * batch), 0)


def idle(of: WorkerModel) -> WorkerSpan:
    return WorkerSpan(of, is_awake=True)


def parked(of: WorkerModel) -> WorkerSpan:
    return WorkerSpan(of, is_awake=False)


counts = st.integers(0, 10_000)


@given(st.integers(1, 1000), st.floats(0.01, 5.0), counts, counts)
def test_with_one_worker_there_is_nothing_to_save(steps: int, seconds: float, decode: int, prefill: int) -> None:
    span = WorkerSpan(model(), is_awake=True, steps=steps, step_seconds=seconds, decode_tokens=min(decode, 256 * steps))
    most_joules = ELAPSED_SECONDS * 690
    for one in (span, replace(span, prefill_tokens=prefill)):
        assert round_robin_extra_joules([one], ELAPSED_SECONDS) == pytest.approx(0.0, abs=1e-3 * most_joules)


def test_an_idle_fleet_saves_nothing_and_a_parked_worker_what_idling_costs_beyond_bare_hardware() -> None:
    of = model()
    assert round_robin_extra_joules([idle(of), idle(of)], ELAPSED_SECONDS) == 0
    saved_joules = round_robin_extra_joules([idle(of), parked(of)], ELAPSED_SECONDS)
    assert saved_joules == pytest.approx(ELAPSED_SECONDS * (121.7 - 71.8))


def test_filling_one_worker_saves_what_the_others_would_draw() -> None:
    of = model()
    together = round_robin_extra_joules([busy(of, ELAPSED_SECONDS, 32), idle(of), idle(of), idle(of)], ELAPSED_SECONDS)
    # Eight on each of four: four times the power at 8 against once that at 32 and three that idle.
    expected = ELAPSED_SECONDS * (4 * of.watts(8) - of.watts(32) - 3 * of.idle_watts)
    assert together == pytest.approx(expected, rel=0.1)
    assert together < expected, "what falls together by chance costs less than an even spread"


def test_work_that_was_spread_evenly_saves_next_to_nothing() -> None:
    of = model()
    spread = [busy(of, ELAPSED_SECONDS, 16) for _ in range(4)]
    spent_joules = 4 * ELAPSED_SECONDS * of.watts(16)
    assert abs(round_robin_extra_joules(spread, ELAPSED_SECONDS)) < 0.01 * spent_joules


def test_requests_that_were_gathered_count_as_if_they_had_come_together() -> None:
    of = model()
    gathered = [busy(of, 1.0, 32), idle(of)]
    # For one second of the five 16 on each of two, and nothing in the other four.
    most = 1.1 * (2 * of.watts(16) - of.watts(32) - of.idle_watts)
    assert 0 < round_robin_extra_joules(gathered, ELAPSED_SECONDS) < most


def test_prompts_alone_are_spread_too() -> None:
    of = model()
    tokens = 20_000
    seconds = 10 * of.steps.at(1) + tokens * of.prefill_token_seconds
    spans = [WorkerSpan(of, is_awake=True, steps=10, step_seconds=seconds, prefill_tokens=tokens), idle(of)]
    extra_joules = round_robin_extra_joules(spans, ELAPSED_SECONDS)
    assert abs(extra_joules) < 0.05 * seconds * of.watts(1), "the same passes at the same power, on two workers"


workers = st.lists(
    st.tuples(st.booleans(), st.integers(0, 500), st.floats(0, 20), counts, counts), min_size=1, max_size=6
)


@given(workers)
def test_whatever_was_done_the_estimate_is_bounded_by_all_workers_at_full_power(
    done: list[tuple[bool, int, float, int, int]],
) -> None:
    of = model()
    spans = [WorkerSpan(of, *one) for one in done]
    most_joules = ELAPSED_SECONDS * len(spans) * of.power.at(100_000)
    assert abs(round_robin_extra_joules(spans, ELAPSED_SECONDS)) <= most_joules


def test_no_workers_and_no_time_say_nothing() -> None:
    assert round_robin_extra_joules([], ELAPSED_SECONDS) == 0
    assert round_robin_extra_joules([idle(model())], 0.0) == 0
