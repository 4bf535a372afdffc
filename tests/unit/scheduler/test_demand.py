"""The forecast of demand: proportional to what comes, quick to rise, slow to fall."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.demand import Demand
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker
from tests.contract.workers import Load, worker_of

TARGETS = LatencyTargets()


def worker(hardware: str = "h100") -> Worker:
    return worker_of(Load("w1", 0, 256, hardware), 1)


def offered(
    seconds: float, a_second: int, *, into: Demand | None = None, begin: float = 0.0, prompt: int = 1000
) -> Demand:
    """Requests at an even pace."""
    demand = Demand() if into is None else into
    for number in range(round(seconds * a_second)):
        demand.add(prompt, 200.0, begin + number / a_second)
    return demand


def test_without_requests_there_is_none() -> None:
    assert Demand().workers(worker(), TARGETS, 0.0, 100.0) == 0.0


def test_at_an_even_pace_it_is_what_the_work_would_keep_busy() -> None:
    one, a_second = worker(), 20
    demand = offered(200.0, a_second).workers(one, TARGETS, 0.0, 200.0)
    # Of each request a prompt, and a share of the decode steps of a batch, whatever that is within the target.
    batches = [batch for batch in range(1, 257) if one.model.steps.at(batch) <= TARGETS.tpot_seconds]
    prompts = a_second * 1000 * one.model.prefill_token_seconds
    decodes = [a_second * 200 * one.model.steps.at(batch) / batch for batch in (batches[-1], batches[-1] // 2)]
    assert prompts + min(decodes) * 0.95 <= demand <= prompts + max(decodes) * 1.1


def test_twice_the_requests_are_twice_the_demand() -> None:
    once = offered(200.0, 10).workers(worker(), TARGETS, 0.0, 200.0)
    assert offered(200.0, 20).workers(worker(), TARGETS, 0.0, 200.0) == pytest.approx(2 * once, rel=0.02)


def test_a_slower_worker_and_a_tighter_target_want_more() -> None:
    demand = offered(100.0, 20)
    usual = demand.workers(worker(), TARGETS, 0.0, 100.0)
    assert demand.workers(worker("a100"), TARGETS, 0.0, 100.0) > usual
    assert demand.workers(worker(), LatencyTargets(1.0, 0.02), 0.0, 100.0) > usual


def test_where_no_batch_meets_the_target_one_sequence_at_a_time_is_counted() -> None:
    one = worker()
    demand = offered(100.0, 1).workers(one, LatencyTargets(1.0, 1e-6), 0.0, 100.0)
    assert demand == pytest.approx(1000 * one.model.prefill_token_seconds + 200 * one.model.steps.at(1), rel=0.1)


def test_a_rise_is_seen_within_half_a_minute() -> None:
    demand = offered(300.0, 5)
    offered(30.0, 20, into=demand, begin=300.0)
    new = offered(300.0, 20).workers(worker(), TARGETS, 0.0, 300.0)
    assert demand.workers(worker(), TARGETS, 0.0, 330.0) > 0.8 * new


def test_a_lull_is_not_taken_for_the_end_but_a_long_silence_is() -> None:
    demand = offered(300.0, 20)
    busy = demand.workers(worker(), TARGETS, 0.0, 300.0)
    assert demand.workers(worker(), TARGETS, 0.0, 310.0) > 0.7 * busy
    assert demand.workers(worker(), TARGETS, 0.0, 900.0) < 0.01 * busy


def test_the_first_requests_do_not_look_like_a_flood() -> None:
    first = Demand()
    first.add(1000, 200.0, 0.0)
    a_second = offered(300.0, 1).workers(worker(), TARGETS, 0.0, 300.0)
    assert first.workers(worker(), TARGETS, 0.0, 0.0) <= 1.2 * a_second


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1e5), st.floats(0, 1e4)), max_size=30), st.floats(0, 1e4))
def test_it_is_never_negative_and_fades(arrivals: list[tuple[float, float, float]], silence: float) -> None:
    demand, now = Demand(), 0.0
    for gap, prompt, output in arrivals:
        now += gap
        demand.add(prompt, output, now)
    at_once, later = (demand.workers(worker(), TARGETS, 0.0, at) for at in (now + 1.0, now + 1.0 + silence))
    assert 0 <= later <= at_once * (1 + 1e-9)


def test_what_can_wait_counts_as_far_as_the_queue_is_full() -> None:
    demand, urgent = Demand(), offered(300.0, 10)
    for number in range(3000):
        demand.add_patient(1000, 200.0, number / 10)
    assert demand.workers(worker(), TARGETS, 0.0, 300.0) == 0.0
    whole = demand.workers(worker(), TARGETS, 1.0, 300.0)
    assert whole == pytest.approx(urgent.workers(worker(), TARGETS, 0.0, 300.0), rel=0.05)
    assert demand.workers(worker(), TARGETS, 0.5, 300.0) == pytest.approx(whole / 2)
