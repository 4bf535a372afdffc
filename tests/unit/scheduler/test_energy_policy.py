"""Fill before spill, by example: which worker, and why."""

from dataclasses import replace
from math import nan

import pytest

from scheduler import energy_policy
from scheduler.energy_policy import FillBeforeSpill
from scheduler.events import RequestArrived, WorkReport
from scheduler.placement import Hold, Placement
from scheduler.pool import Pool
from scheduler.request import Request
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker
from tests.contract.workers import Load, pool_of, request_of

ASKED = request_of(RequestArrived("r1", "a", prompt_bytes=4000))
PATIENT = request_of(RequestArrived("r1", "a", "flex", prompt_bytes=4000), may_wait=True)


def chosen(
    pool: Pool, request: Request = ASKED, targets: LatencyTargets | None = None, at: float = 0.0
) -> Placement | Hold:
    return FillBeforeSpill(targets or LatencyTargets()).choose(request, pool, at)


def named(pool: Pool, worker_id: str) -> Worker:
    return next(worker for worker in pool.emptiest() if worker.worker_id == worker_id)


def steps(running_requests: int, hardware: str = "h100") -> float:
    [worker] = pool_of([Load("w", 0, 256, hardware)]).emptiest()
    return worker.model.steps.at(running_requests)


def test_the_fullest_that_meets_the_targets_is_filled() -> None:
    pool = pool_of([Load("w0", 3, 64), Load("w1", 20, 64), Load("w2", 0, 64)])
    assert chosen(pool) == Placement("w1", "fills")


def test_where_none_runs_anything_one_is_opened() -> None:
    assert chosen(pool_of([Load("w0", 0, 64), Load("w1", 0, 64)])) == Placement("w0", "opens")


def test_a_full_worker_is_not_offered_and_another_is_opened() -> None:
    assert chosen(pool_of([Load("w0", 64, 64), Load("w1", 0, 64)])) == Placement("w1", "opens")


def test_a_batch_that_would_break_the_target_between_tokens_is_left_alone() -> None:
    pool = pool_of([Load("w0", 200, 256), Load("w1", 2, 256), Load("w2", 0, 256)])
    targets = LatencyTargets(1.0, steps(201) * 1.01)  # met by the prediction, but with nothing to spare
    assert chosen(pool, targets=targets) == Placement("w1", "fills")


def test_a_backlog_of_prompts_that_would_break_the_target_of_the_first_token_is_left_alone() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 2, 64)])
    named(pool, "w0").prefilled_at_seconds = 1.1
    assert chosen(pool) == Placement("w1", "fills")
    assert chosen(pool, targets=LatencyTargets(10.0, 0.05)) != Placement("w1", "fills")


def test_a_worker_that_spends_its_time_on_prompts_is_left_alone() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 2, 64)])
    for _ in range(50):
        named(pool, "w0").expect_prefill(3000, 0.0)
    named(pool, "w0").prefilled_at_seconds = 0.0
    assert named(pool, "w0").token_seconds(0.0) > 0.05
    assert chosen(pool) == Placement("w1", "fills")


def test_a_worker_whose_kv_cache_is_nearly_full_is_left_alone() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 2, 64)])
    named(pool, "w0").model.kv_cache_usage_ratio = 0.97
    assert chosen(pool) == Placement("w1", "fills")
    assert chosen(pool, PATIENT) == Placement("w1", "flex_joins")


def test_where_none_of_the_fullest_will_do_it_spills_to_the_emptiest() -> None:
    crowded = [Load(f"w{number:02}", 200, 256) for number in range(2 * energy_policy._LOOKED_AT)]
    pool = pool_of([*crowded, Load("x", 2, 256)])
    assert chosen(pool, targets=LatencyTargets(1.0, steps(201) * 1.01)) == Placement("x", "spills")


def test_in_a_large_fleet_the_next_fullest_is_filled_too_and_the_emptiest_stay_empty() -> None:
    crowded = [Load(f"a{number:02}", 200, 256) for number in range(2 * energy_policy._LOOKED_AT)]
    empty = [Load(f"c{number:02}", 0, 256) for number in range(5 * energy_policy._LOOKED_AT)]
    pool = pool_of([*crowded, Load("b0", 40, 256), Load("b1", 30, 256), *empty])
    assert chosen(pool, targets=LatencyTargets(1.0, steps(201) * 1.01)) == Placement("b0", "spills")


def test_in_a_large_fleet_flex_joins_the_next_fullest_and_opens_none() -> None:
    crowded = [Load(f"a{number:02}", 200, 256) for number in range(2 * energy_policy._LOOKED_AT)]
    empty = [Load(f"c{number:02}", 0, 256) for number in range(5 * energy_policy._LOOKED_AT)]
    targets = LatencyTargets(1.0, steps(201) * 1.01)
    pool = pool_of([*crowded, Load("b0", 40, 256), *empty])
    assert chosen(pool, PATIENT, targets) == Placement("b0", "flex_joins")
    assert chosen(pool_of([*crowded, *empty]), PATIENT, targets) == Hold("flex_waits")


def test_where_no_worker_meets_the_targets_it_goes_where_its_first_token_comes_soonest() -> None:
    pool = pool_of([Load("w0", 30, 64), Load("w1", 30, 64), Load("w2", 31, 64)])
    for number, backlog_seconds in enumerate((9.0, 5.0, 7.0)):
        named(pool, f"w{number}").prefilled_at_seconds = backlog_seconds
    assert chosen(pool) == Placement("w1", "best_effort")


@pytest.mark.parametrize("targets", [LatencyTargets(1e-6, 0.05), LatencyTargets(1.0, 1e-6), LatencyTargets(1e-9, 1e-9)])
@pytest.mark.parametrize("running", [0, 3])
def test_an_impossible_target_means_best_effort_and_nobody_waits(targets: LatencyTargets, running: int) -> None:
    pool = pool_of([Load("w0", running), Load("w1", running)], waiting_requests=30)
    placement = chosen(pool, targets=targets)
    assert isinstance(placement, Placement)
    assert placement.reason == "best_effort"


def test_one_that_has_waited_too_long_goes_where_it_adds_little_rather_than_to_a_cold_worker() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 0, 64)])
    assert chosen(pool, at=9.0) == Placement("w0", "fills")


def test_a_worker_that_failed_the_request_is_not_chosen() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 2, 64), Load("w2", 0, 64)])
    request = request_of(RequestArrived("r1", "a", prompt_bytes=4000))
    request.avoided_ready_numbers = frozenset({1})
    assert chosen(pool, request) == Placement("w1", "fills")


def test_where_all_that_were_looked_at_have_failed_it_another_is_found() -> None:
    many = 3 * energy_policy._LOOKED_AT
    request = request_of(RequestArrived("r1", "a", prompt_bytes=4000))
    request.avoided_ready_numbers = frozenset(range(1, many))
    pool = pool_of([Load(f"w{number:02}", number % 4, 4) for number in range(1, many + 1)])
    placement = chosen(pool, request)
    assert isinstance(placement, Placement)
    assert placement.worker_id == f"w{many:02}"


def test_without_telemetry_the_least_loaded_is_chosen() -> None:
    pool = pool_of([Load("w0", 20, 64, None), Load("w1", 2, 64, None)])
    assert chosen(pool) == Placement("w1", "no_telemetry")
    assert chosen(pool, PATIENT) == Placement("w1", "no_telemetry")


def test_telemetry_that_is_old_counts_as_none() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 2, 64)])
    assert chosen(pool, at=9.0).reason == "fills"
    assert chosen(pool, at=11.0) == Placement("w1", "no_telemetry")


def test_telemetry_that_makes_no_sense_counts_as_none() -> None:
    pool = pool_of([Load("w0", 20, 64), Load("w1", 2, 64)])
    nonsense = WorkReport(1, nan, 1, 1)
    for worker in pool.emptiest():
        worker.model.observe(nonsense, 1, 0.0)
    assert chosen(pool) == Placement("w1", "no_telemetry")


def test_of_trusted_and_silent_workers_the_trusted_one_is_filled() -> None:
    pool = pool_of([Load("w0", 40, 64, None), Load("w1", 2, 64)])
    assert chosen(pool) == Placement("w1", "fills")


def test_what_can_wait_joins_a_batch_that_has_slack() -> None:
    pool = pool_of([Load("w0", 0, 64), Load("w1", 9, 64)])
    assert chosen(pool, PATIENT) == Placement("w1", "flex_joins")


def test_what_can_wait_leaves_room_in_a_batch_for_what_cannot() -> None:
    pool = pool_of([Load("w0", 200, 256)])
    tight = LatencyTargets(1.0, steps(201) / ((energy_policy._TPOT_RATIO + energy_policy._FLEX_TPOT_RATIO) / 2))
    assert chosen(pool, ASKED, tight).reason == "fills"
    assert chosen(pool, PATIENT, tight) == Hold("flex_waits")


@pytest.mark.parametrize("running_elsewhere", [0, 4])
def test_what_can_wait_does_not_open_a_worker(running_elsewhere: int) -> None:
    pool = pool_of([Load("w0", 0, 64)], waiting_requests=1)
    pool.running_requests = running_elsewhere
    assert chosen(pool, PATIENT) == Hold("flex_waits")


def test_enough_that_wait_form_a_batch_of_their_own_where_none_runs() -> None:
    few = pool_of([Load("w0", 0, 64)], waiting_requests=energy_policy._FLEX_BATCH - 1)
    enough = pool_of([Load("w0", 0, 64)], waiting_requests=energy_policy._FLEX_BATCH)
    assert chosen(few, PATIENT) == Hold("flex_waits")
    assert chosen(enough, PATIENT) == Placement("w0", "flex_forms")


def test_while_a_batch_runs_those_that_wait_for_it_form_no_other() -> None:
    pool = pool_of([Load("w0", 0, 64)], waiting_requests=2 * energy_policy._FLEX_BATCH)
    pool.running_requests = 4  # on workers without room
    assert chosen(pool, PATIENT) == Hold("flex_waits")


def test_what_has_waited_long_enough_is_served_like_any_other() -> None:
    pool = pool_of([Load("w0", 0, 64)])
    due = replace(PATIENT, is_due=True)
    assert chosen(pool, due) == Placement("w0", "opens")


def test_the_fuller_the_queue_the_less_slack_is_left_to_others() -> None:
    targets = LatencyTargets(1.0, steps(41) / 0.7)  # between the share of the target that flex may use and the others'
    for waiting, expected in ((2, Hold("flex_waits")), (1000, Placement("w0", "flex_joins"))):
        assert chosen(pool_of([Load("w0", 40, 64)], waiting), PATIENT, targets) == expected
