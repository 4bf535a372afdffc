"""Which workers are awake, through the core: parked when idling cost as much as a start, started ahead of need."""

import pytest

from scheduler.commands import Command, Park, Start
from scheduler.events import (
    DispatchFailed,
    DrainStarted,
    RequestArrived,
    RequestCancelled,
    WorkerLost,
    WorkerReported,
    WorkReport,
)
from scheduler.hardware import hardware_class
from scheduler.limits import SchedulerLimits
from scheduler.targets import LatencyTargets
from tests.unit.scheduler.fleet_in_time import FleetInTime, dispatched, parks, starts

H100 = hardware_class("h100")
IDLE_SECONDS = H100.start_joules / (H100.idle_watts - H100.parked_watts)
NOBODY = SchedulerLimits(min_workers=0)


def test_an_idle_worker_is_parked_when_idling_has_cost_what_a_start_does() -> None:
    fleet = FleetInTime(workers=2)
    assert parks(fleet.until(IDLE_SECONDS - 0.001)) == []
    [park] = parks(fleet.until(IDLE_SECONDS + 0.001))
    assert "idle for 20 s at 49.9 W above parked: more than the 1000 J of a start" in park.reason


def test_a_worker_that_turns_out_to_idle_dearly_is_parked_sooner() -> None:
    fleet = FleetInTime(workers=2)
    commands: list[Command] = []
    while fleet.now_seconds < IDLE_SECONDS - 5.0 and not parks(commands):
        fleet.now_seconds += 1.0
        work = WorkReport(0, 0.0, 0, 0, energy_joules=500.0 * fleet.now_seconds)
        commands = [one for name in sorted(fleet.awake) for one in fleet.handle(WorkerReported(name, 0, 0, work))]
        commands += fleet.core.wake(fleet.now_seconds)
    assert len(parks(commands)) == 1
    assert fleet.now_seconds > H100.start_joules / (500.0 - H100.parked_watts)


def test_the_time_begins_when_the_last_request_ends() -> None:
    fleet = FleetInTime(workers=1, limits=NOBODY)
    fleet.until(5.0)
    fleet.arrive("r1", "r2")
    fleet.until(10.0)
    fleet.finish("r1")
    fleet.until(60.0)
    fleet.finish("r2")
    assert parks(fleet.until(60.0 + IDLE_SECONDS - 0.001)) == []
    fleet.until(500.0)
    [at_seconds] = [at for at, command in fleet.told if isinstance(command, Park)]
    # Exactly then, but for the seconds in which the demand of before is still remembered.
    assert 60.0 + IDLE_SECONDS <= at_seconds < 60.0 + IDLE_SECONDS + 250.0


@pytest.mark.parametrize("least", [0, 1, 3])
def test_never_fewer_than_the_least_are_left_and_all_others_go(least: int) -> None:
    fleet = FleetInTime(workers=5, limits=SchedulerLimits(min_workers=least))
    fleet.until(200.0)
    assert len(fleet.awake) == least


@pytest.mark.parametrize(("of_the_model", "of_others", "left"), [(0, 2, 0), (2, 0, 2)])
def test_a_model_with_a_number_of_its_own_keeps_that_many(of_the_model: int, of_others: int, left: int) -> None:
    limits = SchedulerLimits(min_workers=of_others, min_workers_by_model={"m": of_the_model})
    fleet = FleetInTime(workers=3, limits=limits)
    fleet.until(500.0)
    assert len(fleet.awake) == left


def test_where_parking_makes_no_difference_nobody_is_parked() -> None:
    fleet = FleetInTime(workers=3, can_park=False)
    assert fleet.until(200.0) == []


@pytest.mark.parametrize("policy", ["least-loaded", "round-robin"])
def test_policies_that_use_all_workers_park_none(policy: str) -> None:
    fleet = FleetInTime(workers=3, policy=policy)
    assert fleet.until(200.0) == []


def test_a_worker_that_the_demand_wants_is_not_parked_though_it_idles_now() -> None:
    fleet = FleetInTime(workers=2)
    for second in range(1, 120):
        # Half a second of prompts each second keeps more than one worker's decoding within the targets busy.
        fleet.until(float(second))
        for number in range(5):
            fleet.arrive(f"r{second}.{number}", prompt_bytes=20_000 * 4)
            fleet.finish(f"r{second}.{number}")
    assert fleet.core.snapshot().lanes[0].wanted_workers >= 2
    assert len(fleet.awake) == 2
    fleet.until(1000.0)
    assert len(fleet.awake) == 1


def test_while_somebody_waits_nobody_is_parked() -> None:
    fleet = FleetInTime(workers=2, places=1)
    [placed] = dispatched(fleet.arrive("r1"))
    fleet.arrive("r2")
    assert placed == "r1"
    # It failed on one worker, the other is busy: so it waits, and the first one idles.
    fleet.handle(DispatchFailed("r1", "w0"))
    assert parks(fleet.until(300.0)) == []
    assert fleet.core.queued_requests == 1
    fleet.handle(RequestCancelled("r1"))
    assert [park.worker_id for park in parks(fleet.until(600.0))] == ["w0"]


def test_a_worker_that_tells_nothing_is_not_parked() -> None:
    fleet = FleetInTime(workers=2)
    fleet.awake.clear()  # so that nobody reports any more
    assert parks(fleet.until(300.0)) == []


def test_nothing_is_sent_to_a_worker_from_the_command_to_park_it_on() -> None:
    fleet = FleetInTime(workers=2, places=1, obeys=False)
    [park] = parks(fleet.until(30.0))
    commands = fleet.arrive("r1", "r2")
    assert dispatched(commands) == ["r1"]
    assert all(getattr(command, "worker_id", "") != park.worker_id for command in commands)


def test_when_nobody_is_awake_an_arrival_starts_a_worker_and_is_served_by_it() -> None:
    fleet = FleetInTime(workers=2, limits=NOBODY)
    fleet.until(60.0)
    assert fleet.awake == set()
    fleet.obeys = False
    [start] = starts(fleet.arrive("r1"))
    assert start.reason == "1 requests wait for a place"
    assert starts(fleet.arrive("r2")) == []  # one is on its way already
    assert dispatched(fleet.ready(start.worker_id)) == ["r1", "r2"]


def test_what_can_wait_starts_nobody_until_it_is_due() -> None:
    fleet = FleetInTime(workers=1, limits=SchedulerLimits(min_workers=0, flex_wait_seconds=100.0))
    fleet.until(60.0)
    assert fleet.awake == set()
    assert fleet.arrive("r1", tier="flex") == []
    assert fleet.until(159.9) == []
    commands = fleet.until(161.0)
    assert len(starts(commands)) == 1
    assert dispatched(commands) == ["r1"]


def test_what_can_wait_but_has_a_deadline_starts_a_worker_in_time_for_it() -> None:
    fleet = FleetInTime(workers=1, limits=NOBODY)
    fleet.until(60.0)
    fleet.obeys = False
    fleet.arrive("r1", tier="flex", deadline=200.0)
    [start] = starts(fleet.until(200.0 - H100.start_seconds))
    at_seconds = next(at for at, command in fleet.told if command is start)
    assert 100.0 < at_seconds <= 200.0 - H100.start_seconds
    fleet.now_seconds = at_seconds + H100.start_seconds
    assert dispatched(fleet.ready("w0")) == ["r1"]


def test_what_could_wait_but_for_its_deadline_starts_a_worker_at_once() -> None:
    fleet = FleetInTime(workers=1, limits=NOBODY)
    fleet.until(60.0)
    commands = fleet.arrive("r1", tier="flex", deadline=60.0 + H100.start_seconds)
    assert len(starts(commands)) == 1
    assert dispatched(commands) == ["r1"]


def test_demand_starts_workers_before_anybody_waits() -> None:
    fleet = FleetInTime(workers=3, places=64)
    fleet.until(60.0)
    assert len(fleet.awake) == 1
    for number in range(15 * 60):
        fleet.until(60.0 + number / 15)
        fleet.arrive(f"r{number}", prompt_bytes=4000)
        fleet.finish(f"r{number}")
        assert fleet.core.queued_requests == 0
    assert len(fleet.awake) > 1
    reasons = [command.reason for _, command in fleet.told if isinstance(command, Start)]
    assert any("demand for" in reason for reason in reasons)


def test_a_request_placed_where_the_targets_are_at_risk_starts_a_worker() -> None:
    fleet = FleetInTime(workers=2, targets=LatencyTargets(1.0, 0.001))
    fleet.until(60.0)
    [start] = starts(fleet.arrive("r1"))
    assert start.reason == "a request was placed where the targets are at risk"


def test_a_lost_worker_is_replaced_by_a_parked_one() -> None:
    fleet = FleetInTime(workers=2)
    [parked] = parks(fleet.until(60.0))
    [lost] = fleet.awake
    fleet.awake.clear()
    [start] = starts(fleet.handle(WorkerLost(lost, "killed")))
    assert start.worker_id == parked.worker_id
    assert "wants 1 awake" in start.reason


def test_where_none_need_stay_awake_a_lost_worker_is_replaced_for_those_who_wait() -> None:
    fleet = FleetInTime(workers=3, places=1, limits=NOBODY)
    fleet.arrive("r1")
    fleet.until(60.0)
    fleet.obeys = False
    [running] = fleet.awake
    [first] = starts(fleet.arrive("r2"))
    assert starts(fleet.handle(WorkerLost(running, "killed"))) == []  # one is on its way already
    fleet.until(65.0)
    [start] = starts(fleet.handle(WorkerLost(first.worker_id, "failed while loading")))
    assert start.worker_id not in {running, first.worker_id}
    assert start.reason == "1 requests wait and no worker is awake"


def test_after_the_drain_began_nobody_is_parked_or_started() -> None:
    idle = FleetInTime(workers=3)
    idle.handle(DrainStarted())
    assert idle.until(300.0) == []
    assert idle.core.next_wakeup() is None
    parked = FleetInTime(workers=2)
    parked.until(60.0)
    [awake] = parked.awake
    parked.handle(DrainStarted())
    assert starts(parked.handle(WorkerLost(awake, "killed"))) == []


def test_in_a_drain_a_worker_is_started_for_those_who_would_wait_in_vain() -> None:
    fleet = FleetInTime(workers=2, limits=NOBODY)
    fleet.until(60.0)
    fleet.arrive("r1", tier="flex")
    commands = fleet.handle(DrainStarted())
    assert len(starts(commands)) == 1
    assert dispatched(commands) == ["r1"]


def test_a_power_cap_without_room_for_another_worker_stops_starts() -> None:
    running_watts, start_watts = H100.one_watts + H100.parked_watts, H100.watts(8) - H100.parked_watts
    for cap_watts, expected in ((running_watts + 0.9 * start_watts, 0), (running_watts + 1.1 * start_watts, 1)):
        limits = SchedulerLimits(power_cap_watts=cap_watts)
        fleet = FleetInTime(workers=2, limits=limits, targets=LatencyTargets(1.0, 0.001))
        fleet.until(60.0)
        assert len(fleet.awake) == 1
        assert len(starts(fleet.arrive("r1"))) == expected


def test_however_low_the_power_cap_a_model_without_any_worker_gets_one() -> None:
    fleet = FleetInTime(workers=2, limits=SchedulerLimits(min_workers=0, power_cap_watts=1.0))
    fleet.until(60.0)
    assert fleet.awake == set()
    commands = fleet.handle(RequestArrived("r1", "m"))
    assert len(starts(commands)) == 1
    assert dispatched(commands) == ["r1"]


def test_where_nobody_may_wait_and_nobody_is_awake_those_turned_away_start_a_worker() -> None:
    fleet = FleetInTime(workers=2, limits=SchedulerLimits(max_queued_requests=0, min_workers=0))
    fleet.until(60.0)
    assert fleet.awake == set()
    assert len(starts(fleet.arrive("r1"))) == 1
    assert dispatched(fleet.arrive("r2")) == ["r2"]


def test_a_start_that_never_ends_is_not_waited_for_while_another_could_serve() -> None:
    fleet = FleetInTime(workers=3, limits=NOBODY)
    fleet.until(60.0)
    fleet.obeys = False
    assert [start.worker_id for start in starts(fleet.arrive("r1"))] == ["w0"]
    assert starts(fleet.until(60.0 + 2.9 * H100.start_seconds)) == []
    assert [start.worker_id for start in starts(fleet.until(60.0 + 3.1 * H100.start_seconds))] == ["w1"]
    assert dispatched(fleet.ready("w1")) == ["r1"]
