"""The load keeps the queue it was asked for and goes through every kind of event; the figures are the decisions'."""

import gc
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.scheduler_load import Scenario, SchedulerLoad
from bench.scheduler_speed import SpeedSettings, cases, main, measure
from scheduler.policy import POLICIES

TINY = SpeedSettings(queued_requests=(40,), workers=10, rounds=60)
every_case = pytest.mark.parametrize(("policy", "scenario", "queued"), list(cases(TINY)))


def ticking(seconds: float) -> Iterator[float]:
    return itertools.count(0.0, seconds)


@every_case
def test_the_queue_stays_as_long_as_was_asked_for(policy: str, scenario: Scenario, queued: int) -> None:
    load = SchedulerLoad(policy, scenario, queued, 10)
    load.fill_queue()
    assert load.core.queued_requests == pytest.approx(queued, abs=30 if scenario == "churn" else 0)
    for _ in range(60):
        load.round()
    assert load.core.queued_requests == pytest.approx(queued, abs=80 if scenario == "churn" else 1)


def test_in_saturated_no_place_is_free_and_all_tiers_wait() -> None:
    load = SchedulerLoad("energy", "saturated", 40, 10)
    load.fill_queue()
    seen = load.core.snapshot()
    assert seen.running_requests == 80
    assert set(seen.queued_requests_by_tier) == {"priority", "default", "flex"}


def test_in_half_full_half_of_the_places_are_free_and_flex_is_held() -> None:
    load = SchedulerLoad("energy", "half-full", 40, 10)
    load.fill_queue()
    for _ in range(60):
        load.round()
    seen = load.core.snapshot()
    assert seen.running_requests == pytest.approx(40, abs=2)
    assert set(seen.queued_requests_by_tier) == {"flex"}
    assert seen.lanes[0].held_reason == "flex_waits"


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_in_churn_everything_happens(policy: str) -> None:
    load = SchedulerLoad(policy, "churn", 40, 10)
    load.fill_queue()
    for _ in range(60):
        load.round()
    expected = {"arrived", "finished", "cancelled", "dispatch_failed", "lost", "ready", "reported"}
    assert expected <= set(load.seconds_by_kind)
    assert ("parked" in load.seconds_by_kind) == (policy == "energy")


def test_the_same_seed_gives_the_same_decisions() -> None:
    counts = []
    for _ in range(2):
        load = SchedulerLoad("energy", "churn", 40, 10)
        load.fill_queue()
        for _ in range(60):
            load.round()
        counts.append(({kind: len(seconds) for kind, seconds in load.seconds_by_kind.items()}, load.core.snapshot()))
    assert counts[0] == counts[1]


def test_only_the_core_is_timed() -> None:
    clock = ticking(0.5)
    load = SchedulerLoad("least-loaded", "saturated", 5, 2, clock=lambda: next(clock))
    load.fill_queue()
    assert {seconds for kind in load.seconds_by_kind.values() for seconds in kind} == {0.5}


@every_case
def test_figures_are_in_order_and_complete(policy: str, scenario: Scenario, queued: int) -> None:
    result = measure(policy, scenario, queued, TINY)
    for kind in (result.all_kinds, *result.by_kind.values()):
        assert 0 < kind.median_seconds <= kind.p99_seconds <= kind.max_seconds
    assert sum(kind.decisions for kind in result.by_kind.values()) == result.all_kinds.decisions
    assert result.all_kinds.decisions >= 3 * TINY.rounds
    assert 300 < result.bytes_per_queued_request < 20_000


def test_what_is_too_slow_or_too_large_is_not_within_bounds() -> None:
    result = measure("least-loaded", "saturated", 40, TINY)
    quick = replace(result.all_kinds, median_seconds=1e-6, p99_seconds=1e-6)
    assert replace(result, all_kinds=quick, bytes_per_queued_request=900.0).is_within_bounds
    assert not replace(result, all_kinds=quick, bytes_per_queued_request=2100.0).is_within_bounds
    for slow in (replace(quick, median_seconds=101e-6), replace(quick, p99_seconds=1.1e-3)):
        assert not replace(result, all_kinds=slow, bytes_per_queued_request=900.0).is_within_bounds


@pytest.mark.parametrize("garbage", ["server", "default", "off"])
def test_garbage_collection_is_afterwards_as_it_was_before(garbage: str) -> None:
    before = gc.isenabled(), gc.get_threshold(), gc.callbacks[:]
    result = measure("round-robin", "saturated", 40, replace(TINY, garbage=garbage))
    assert (gc.isenabled(), gc.get_threshold(), gc.callbacks) == before
    assert result.garbage.collections == 0 or garbage != "off"


ARGUMENTS = ["--queued-requests", "40", "--workers", "10", "--rounds", "20"]


def test_the_command_prints_a_line_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    main(ARGUMENTS)
    heading, names, *lines = capsys.readouterr().out.splitlines()
    assert "garbage collection: server" in heading
    assert "clock: cpu" in heading
    assert names.startswith("policy")
    assert len(lines) == len(list(cases(TINY)))


def test_the_command_prints_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    main([*ARGUMENTS, "--policies", "energy", "--scenarios", "churn", "--clock", "wall", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["clock"] == "wall"
    [result] = printed["results"]
    assert result["by_kind"]["lost"]["decisions"] > 0
    assert isinstance(result["is_within_bounds"], bool)


def test_sizes_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--workers", "0"])
    assert "at least 1" in capsys.readouterr().err
