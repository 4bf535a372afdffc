"""The power cap, through the core: predicted watts stay under it, something always runs, and nobody is forgotten."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.events import RequestArrived, RequestCancelled, WorkerReady
from scheduler.hardware import hardware_class
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from tests.unit.scheduler.fleet_in_time import FleetInTime, dispatched, parks, starts

H100 = hardware_class("h100")
each_policy = pytest.mark.parametrize("policy", sorted(POLICIES))
# A tier arrives, or one that runs ends, or one that waits is given up; then some time passes.
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["priority", "default", "flex", "end", "end", "cancel"]), st.integers(0, 20)),
    min_size=1,
    max_size=60,
)


def capped(cap_watts: float, workers: int = 3, policy: str = "energy", places: int = 8) -> FleetInTime:
    return FleetInTime(workers, places, SchedulerLimits(power_cap_watts=cap_watts), policy, can_park=False)


@each_policy
@settings(deadline=None, max_examples=40)
@given(ACTIONS, st.floats(1.0, 3000.0))
def test_predicted_watts_stay_under_the_cap_and_something_always_runs(
    policy: str, actions: list[tuple[str, int]], cap_watts: float
) -> None:
    fleet = capped(cap_watts, policy=policy)
    live: dict[str, bool] = {}  # whether it runs
    for number, (what, pick) in enumerate(actions):
        commands = []
        if what in {"end", "cancel"}:
            fitting = [one for one, runs in live.items() if runs == (what == "end")]
            if fitting:
                chosen = fitting[pick % len(fitting)]
                del live[chosen]
                commands = fleet.finish(chosen) if what == "end" else fleet.handle(RequestCancelled(chosen))
        else:
            live[f"r{number}"] = False
            commands = fleet.arrive(f"r{number}", tier=what)
        live.update(dict.fromkeys(dispatched(commands), True))
        seen = fleet.core.snapshot()
        assert seen.running_requests <= 1 or seen.predicted_watts <= cap_watts * (1 + 1e-9)
        urgent = sum(count for tier, count in seen.queued_requests_by_tier.items() if tier != "flex")
        assert seen.running_requests >= 1 or not urgent


@each_policy
def test_however_low_the_cap_one_request_runs_at_a_time(policy: str) -> None:
    fleet = capped(1.0, policy=policy)
    assert dispatched(fleet.arrive("r1", "r2", "r3")) == ["r1"]
    assert dispatched(fleet.finish("r1")) == ["r2"]
    assert dispatched(fleet.handle(RequestCancelled("r2"))) == ["r3"]
    assert dispatched(fleet.finish("r3")) == []
    assert fleet.core.live_requests == 0


@each_policy
def test_those_that_are_held_say_why_and_go_when_others_finish(policy: str) -> None:
    fleet = capped(H100.watts(4), workers=1, policy=policy)
    placed = dispatched(fleet.arrive(*[f"r{number}" for number in range(8)]))
    assert 1 <= len(placed) < 8
    assert fleet.core.snapshot().lanes[0].held_reason == "power_cap"
    order = list(placed)
    for _ in range(8 - len(placed)):
        order += dispatched(fleet.finish(order.pop(0)))
    assert fleet.core.queued_requests == 0
    assert fleet.core.snapshot().lanes[0].held_reason is None


def test_flex_requests_stop_short_of_the_cap_that_others_use_up() -> None:
    cap_watts = 1.001 * H100.watts(2) / 0.97  # a prediction may use 97 % of the cap
    flex, default = capped(cap_watts, workers=1), capped(cap_watts, workers=1)
    for fleet, tier in ((flex, "flex"), (default, "default")):
        fleet.arrive("r0")
        fleet.arrive("r1", tier=tier)
    assert default.core.snapshot().running_requests == 2
    assert flex.core.snapshot().running_requests == 1
    assert dispatched(flex.arrive("r2")) == ["r2"]


def test_a_flex_request_that_is_due_holds_up_nobody_whom_the_cap_lets_pass() -> None:
    limits = SchedulerLimits(power_cap_watts=1.001 * H100.watts(2) / 0.97, flex_wait_seconds=5.0)
    fleet = FleetInTime(workers=1, limits=limits, can_park=False)
    fleet.arrive("r0")
    fleet.arrive("r1", tier="flex")
    assert fleet.core.queued_requests == 1
    fleet.until(10.0)
    fleet.arrive("r2")
    assert [one for _, command in fleet.told for one in dispatched([command])] == ["r0", "r1"]
    assert dispatched(fleet.finish("r1")) == ["r2"]


def test_a_request_of_one_model_goes_when_one_of_another_has_made_room_under_the_cap() -> None:
    fleet = capped(1.0, workers=1)
    fleet.handle(WorkerReady("other", frozenset({"n"}), 8, "h100"))
    assert dispatched(fleet.arrive("r1")) == ["r1"]
    assert dispatched(fleet.handle(RequestArrived("r2", "n"))) == []
    assert dispatched(fleet.finish("r1")) == ["r2"]


def test_a_hold_for_want_of_power_starts_no_worker() -> None:
    limits = SchedulerLimits(power_cap_watts=H100.one_watts + H100.parked_watts + 1.0)
    fleet = FleetInTime(workers=2, limits=limits)
    fleet.until(60.0)
    assert len(fleet.awake) == 1
    commands = fleet.arrive("r1", "r2", "r3", "r4", "r5", "r6")
    assert fleet.core.queued_requests > 0
    assert starts(commands) == []


def test_no_worker_is_parked_for_want_of_power_that_another_model_needs_awake() -> None:
    limits = SchedulerLimits(power_cap_watts=(H100.one_watts + H100.idle_watts + 1.0) / 0.97)
    for models, is_parked in ((frozenset({"m"}), True), (frozenset({"m", "n"}), False)):
        fleet = FleetInTime(workers=1, limits=limits)
        fleet.handle(WorkerReady("w1", models, 8, "h100", can_park=True))
        assert dispatched(fleet.arrive("r1")) == ["r1"]
        assert bool(parks(fleet.arrive("r2"))) is is_parked


def test_without_a_cap_nobody_is_held_for_it() -> None:
    fleet = FleetInTime(workers=1, places=64, can_park=False)
    names = [f"r{number}" for number in range(64)]
    assert dispatched(fleet.arrive(*names)) == names
