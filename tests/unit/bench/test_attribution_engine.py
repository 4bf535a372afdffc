"""The simulated engine and its energy counter: what attribution is tried on must behave like the real ones."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bench.attribution.board import Board, SensorSettings
from bench.attribution.engine import SimulatedEngine
from bench.attribution.presets import H100_8B
from bench.attribution.trace import Trace
from bench.attribution.workload import SCENARIOS, RequestPlan, Scenario, plan_requests
from metering.counter import MICROJOULES_PER_MILLIJOULE

PLENTY = 10**9
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def run(*plans: RequestPlan, capacity: int = PLENTY) -> Trace:
    return SimulatedEngine(H100_8B, plans, capacity).run()


def plan(at: float, prompt: int, *outputs: int, cached: int = 0, aborts_after: float | None = None) -> RequestPlan:
    return RequestPlan(at, prompt, cached, outputs, aborts_after)


def small(name: str, requests: int = 60) -> Scenario:
    return replace(BY_NAME[name], requests=requests)


def simulate(scenario: Scenario, seed: int = 3) -> Trace:
    plans = plan_requests(scenario, H100_8B, np.random.default_rng(seed))
    capacity = round(H100_8B.context_capacity_tokens * scenario.context_capacity_ratio)
    return SimulatedEngine(H100_8B, plans, capacity).run()


def test_a_long_prompt_is_computed_in_chunks_beside_what_decodes() -> None:
    trace = run(plan(0.0, 10, 6), plan(0.001, 5000, 2))
    chunks = [step.report.prefill_tokens for step in trace.steps]
    assert chunks[:4] == [10, 2047, 2047, 906]
    assert [step.report.decode_sequences for step in trace.steps[:4]] == [0, 1, 1, 1]
    assert [step.report.first_tokens for step in trace.steps[:4]] == [1, 0, 0, 1]
    assert trace.steps[3].report.first_token_context_tokens == 5000


def test_cached_tokens_are_read_but_not_computed() -> None:
    trace = run(plan(0.0, 1000, 1, cached=960))
    (step,) = trace.steps
    assert (step.report.prefill_tokens, step.report.first_token_prompt_tokens) == (40, 40)
    assert step.report.first_token_context_tokens == 1000
    assert step.members.context_tokens.tolist() == [1000]


def test_samples_of_one_prompt_compute_it_once() -> None:
    trace = run(plan(0.0, 100, 3, 5))
    assert trace.steps[0].report.prefill_tokens == 100 + 4  # the second finds all whole blocks of sixteen
    assert [request for step in trace.steps for request in step.answered] == [0]
    assert [len(step.ended) for step in trace.steps] == [0, 0, 1, 0, 1]


def test_a_caller_that_leaves_takes_part_to_the_end_of_the_step() -> None:
    trace = run(plan(0.0, 50, 100, aborts_after=0.05), plan(0.0, 50, 20))
    (step,) = (step for step in trace.steps if step.cut_off)
    assert step.started_at_seconds < 0.05 <= step.report.ended_at_seconds
    assert step.members.requests == (0, 1)
    assert trace.aborted == {0}
    assert trace.ended_at_seconds[0] == 0.05
    assert all(0 not in later.members.requests for later in trace.steps if later.started_at_seconds > 0.05)


def test_the_last_to_come_is_preempted_and_computed_anew() -> None:
    trace = run(plan(0.0, 100, 50), plan(0.0, 100, 50), capacity=230)
    assert trace.preemptions >= 1
    ended = {request: one for step in trace.steps for request, one in step.ended}
    assert (ended[0].preemptions, ended[1].preemptions) == (0, trace.preemptions)
    assert sum(step.report.recomputed_tokens for step in trace.steps) >= 100
    assert sum(step.report.preemptions for step in trace.steps) == trace.preemptions
    assert ended[1].output_tokens == 50


@pytest.mark.parametrize("scenario", [small(scenario.name) for scenario in SCENARIOS], ids=lambda one: one.name)
def test_every_request_gets_its_tokens_within_the_budget(scenario: Scenario) -> None:
    trace = simulate(scenario)
    ended = Counter(request for step in trace.steps for request, _ in step.ended)
    answered = [request for step in trace.steps for request in step.answered]
    assert sorted([*answered, *trace.aborted]) == list(range(len(trace.requests)))
    for request in answered:
        assert ended[request] == len(trace.requests[request].output_tokens)
    for step in trace.steps:
        report = step.report
        assert 0 < report.prefill_tokens + report.decode_sequences + report.recomputed_tokens <= H100_8B.token_budget
        assert report.ended_at_seconds > step.started_at_seconds
        assert int(step.members.tokens.sum()) == (
            report.prefill_tokens + report.decode_sequences + report.recomputed_tokens
        )


def test_a_scenario_keeps_about_as_many_running_as_it_says() -> None:
    for name in ("chat", "prefix"):
        trace = simulate(small(name, requests=400))
        sizes = [len(step.members.requests) for step in trace.steps]
        assert float(np.mean(sizes)) == pytest.approx(BY_NAME[name].running_sequences, rel=0.35)


def test_scenarios_show_what_they_are_named_for() -> None:
    assert simulate(small("rough", 120)).preemptions > 0
    assert simulate(small("rough", 120)).aborted
    chunked = [step for step in simulate(small("bursty")).steps if step.report.prefill_tokens > 1500]
    assert any(step.report.decode_sequences for step in chunked)
    hits = [one.cached_tokens for one in simulate(small("prefix")).requests]
    assert hits.count(1600) > len(hits) / 2


@pytest.mark.parametrize("seen_ratio", [1.0, 0.25])
@pytest.mark.parametrize("refresh_seconds", [0.1, 0.02, 0.001])
def test_the_counter_shows_whole_millijoules_of_what_was_spent(refresh_seconds: float, seen_ratio: float) -> None:
    trace = simulate(small("chat"))
    lasts_seconds = trace.steps[-1].report.ended_at_seconds + 1
    board = Board(trace, lasts_seconds)
    readings = board.readings(SensorSettings(refresh_seconds, seen_ratio, 0.0), np.random.default_rng(5))
    shown = [reading.energy_microjoules for reading in readings]
    assert shown == sorted(shown)
    assert not any(energy % MICROJOULES_PER_MILLIJOULE for energy in shown)
    changes = len(set(shown))
    assert changes <= lasts_seconds / max(refresh_seconds, 0.05) + 2
    spent, tolerance = board.joules([lasts_seconds])[0], 0.02 if seen_ratio == 1 else 0.05
    assert shown[-1] / 1e6 == pytest.approx(spent, rel=tolerance)


def test_the_board_spends_what_the_steps_and_idling_take() -> None:
    trace = simulate(small("sparse", 5))
    lasts_seconds = trace.steps[-1].report.ended_at_seconds + 1
    steps = sum(step.joules for step in trace.steps)
    busy = sum(step.report.ended_at_seconds - step.started_at_seconds for step in trace.steps)
    spent = Board(trace, lasts_seconds).joules([lasts_seconds])[0]
    assert spent == pytest.approx(steps + (lasts_seconds - busy) * trace.idle_watts)
