from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.events import WorkReport
from server.worker_energy import WorkerEnergy

ACCOUNTS = ("prefill", "decode", "idle", "loading", "unattributed")


def report(instance: str, microjoules: dict[str, int] | None = None, **fields: Any) -> dict[str, Any]:
    return {"instance_id": instance, "model": "m", "accounts_microjoules": {"gpu": microjoules or {}}} | fields


def ended(request_id: str, microjoules: int, outcome: str = "aborted") -> dict[str, Any]:
    return {"request_id": request_id, "outcome": outcome, "prefill_microjoules": 0, "decode_microjoules": microjoules}


def totals(worker: WorkerEnergy) -> dict[tuple[str, str], int]:
    return dict(worker.totals())


def test_before_the_first_report_nothing_is_claimed() -> None:
    worker = WorkerEnergy("w")
    assert totals(worker) == {}
    assert worker.reason == "the worker has not reported yet"


def test_a_report_replaces_the_one_before_it() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", {"idle": 5, "decode": 1}))
    worker.take(report("a", {"idle": 7, "decode": 1}))
    assert totals(worker) == {("gpu", "idle"): 7, ("gpu", "decode"): 1}


def test_a_restarted_worker_counts_on() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", {"idle": 7, "decode": 1}))
    worker.gone()
    assert totals(worker) == {("gpu", "idle"): 7, ("gpu", "decode"): 1}, "what was spent stays spent"
    worker.take(report("b", {"idle": 2, "loading": 4}))
    assert totals(worker) == {("gpu", "idle"): 9, ("gpu", "decode"): 1, ("gpu", "loading"): 4}
    worker.take(report("c", {"idle": 1}))
    assert totals(worker)["gpu", "idle"] == 10


def test_what_an_attached_worker_spent_before_is_no_energy_of_this_server() -> None:
    worker = WorkerEnergy("w", is_ours=False)
    worker.take(report("a", {"idle": 7000, "decode": 900}))
    assert dict(worker.totals_since_start()) == {("gpu", "idle"): 0, ("gpu", "decode"): 0}
    worker.take(report("a", {"idle": 7005, "decode": 900, "prefill": 3}))
    assert dict(worker.totals_since_start()) == {("gpu", "idle"): 5, ("gpu", "decode"): 0, ("gpu", "prefill"): 3}
    worker.take(report("b", {"idle": 2}))
    assert dict(worker.totals_since_start())["gpu", "idle"] == 7
    assert totals(worker)["gpu", "idle"] == 7007, "its counters go on"


def test_all_of_an_engine_of_ours_is_of_this_server() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", {"loading": 40}))
    assert dict(worker.totals_since_start()) == {("gpu", "loading"): 40}


@given(
    lives=st.lists(
        st.lists(st.dictionaries(st.sampled_from(ACCOUNTS), st.integers(0, 10**9)), min_size=1, max_size=5), max_size=5
    )
)
def test_totals_never_fall_and_end_as_the_sum_of_all_lives(lives: list[list[dict[str, int]]]) -> None:
    worker = WorkerEnergy("w")
    spent = dict.fromkeys(ACCOUNTS, 0)
    for life, increments in enumerate(lives):
        present = dict.fromkeys(ACCOUNTS, 0)
        for increment in increments:
            for account, microjoules in increment.items():
                present[account] += microjoules
            before = totals(worker)
            worker.take(report(str(life), dict(present)))
            assert all(totals(worker)[key] >= microjoules for key, microjoules in before.items())
        worker.gone()
        spent = {account: spent[account] + present[account] for account in ACCOUNTS}
    if lives:
        assert {account: energy for (_, account), energy in totals(worker).items()} == spent


def test_a_worker_that_is_gone_draws_and_runs_nothing() -> None:
    worker = WorkerEnergy("w")
    in_flight = {"gpu": {"prefill": 1, "decode": 2}}
    worker.take(report("a", power_watts={"gpu": 9.5}, in_flight_microjoules=in_flight, running_requests=3))
    assert (worker.power_watts, worker.in_flight, worker.running_requests) == ({"gpu": 9.5}, {"gpu": 3}, 3)
    worker.gone()
    assert (worker.power_watts, worker.in_flight, worker.running_requests) == ({}, {}, 0)


def test_an_end_is_told_once() -> None:
    worker = WorkerEnergy("w")
    first = [ended("x", 5), ended("y", 3, "completed")]
    assert worker.take(report("a", recent_requests=first)) == [("x", 5), ("y", 3)]
    assert worker.take(report("a", recent_requests=first)) == []
    assert worker.take(report("a", recent_requests=[*first, ended("z", 7)])) == [("z", 7)]
    assert worker.take(report("a", recent_requests=[ended("z", 7)])) == [], "the oldest leave the list"


def test_aborts_of_one_id_are_told_apart() -> None:
    worker = WorkerEnergy("w")
    assert worker.take(report("a", recent_requests=[ended("x", 5)])) == [("x", 5)]
    assert worker.take(report("a", recent_requests=[ended("x", 5), ended("x", 6)])) == [("x", 6)]
    assert worker.take(report("a", recent_requests=[ended("x", 5), ended("x", 6), ended("x", 6)])) == [("x", 6)]


def test_an_abort_in_a_new_life_is_a_new_one() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", recent_requests=[ended("x", 5)]))
    assert worker.take(report("b", recent_requests=[ended("x", 5)])) == [("x", 5)]


def test_a_report_that_leaves_things_out_is_taken() -> None:
    worker = WorkerEnergy("w")
    assert worker.take({}) == []
    assert totals(worker) == {}


def test_what_was_in_flight_when_an_engine_died_is_unattributed_once_its_successor_reports() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", {"idle": 7}, in_flight_microjoules={"gpu": {"prefill": 1, "decode": 2}}))
    worker.gone()
    worker.take(report("b", {"idle": 1}))
    assert totals(worker) == {("gpu", "idle"): 8, ("gpu", "unattributed"): 3}


def test_a_worker_that_was_only_silent_loses_nothing() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", {"idle": 7}, in_flight_microjoules={"gpu": {"prefill": 1, "decode": 2}}))
    worker.gone()
    worker.take(report("a", {"idle": 7, "decode": 3}))
    assert totals(worker) == {("gpu", "idle"): 7, ("gpu", "decode"): 3}


WORK = {
    "steps_total": 7,
    "step_seconds_total": 0.5,
    "decode_tokens_total": 20,
    "prefill_tokens_total": 300,
    "kv_cache_usage_ratio": 0.25,
}


def test_work_is_told_with_all_the_energy_of_this_life() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", {"idle": 9_000_000}, source="nvml", work=WORK))
    told = report(
        "b",
        {"idle": 1_000_000, "loading": 2_000_000},
        source="nvml",
        work=WORK,
        in_flight_microjoules={"gpu": {"prefill": 500_000, "decode": 0}},
    )
    told["accounts_microjoules"]["cpu"] = {"loading": 1_000_000}
    worker.take(told)
    assert worker.work == WorkReport(7, 0.5, 20, 300, 4.5, 3.0, kv_cache_usage_ratio=0.25)
    worker.gone()
    assert worker.work is None


def test_work_is_told_where_energy_is_not_measured() -> None:
    worker = WorkerEnergy("w")
    worker.take({"source": None, "work": WORK | {"kv_cache_usage_ratio": None}})
    assert worker.work == WorkReport(7, 0.5, 20, 300)


def test_a_worker_that_does_not_tell_its_work_has_none() -> None:
    worker = WorkerEnergy("w")
    worker.take(report("a", work=WORK))
    worker.take(report("a"))
    assert worker.work is None


@pytest.mark.parametrize(
    "spoilt",
    [
        {"steps_total": -1},
        {"steps_total": None},
        {"step_seconds_total": float("inf")},
        {"step_seconds_total": float("nan")},
        {"decode_tokens_total": 1.5},
        {"prefill_tokens_total": "many"},
        {"kv_cache_usage_ratio": -0.1},
    ],
)
def test_work_that_makes_no_sense_is_refused_whole(spoilt: dict[str, Any]) -> None:
    worker = WorkerEnergy("w")
    with pytest.raises(ValueError, match="work"):
        worker.take(report("a", {"idle": 5}, work=WORK | spoilt))
    assert totals(worker) == {}


@pytest.mark.parametrize("field", ["running_requests", "waiting_requests"])
def test_a_count_that_no_gauge_can_show_is_refused_whole(field: str) -> None:
    worker = WorkerEnergy("w")
    with pytest.raises(ValueError, match=field):
        worker.take(report("a", {"idle": 5}, **{field: 10**400}))
    assert totals(worker) == {}
