"""Who goes first, through the core: tier, then deadline, then arrival; and who is not served at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.commands import Reject, RejectCause
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.tiers import TIERS
from tests.unit.scheduler.fleet_in_time import FleetInTime, dispatched

each_policy = pytest.mark.parametrize("policy", sorted(POLICIES))


def busy(policy: str = "least-loaded", **limits: float) -> FleetInTime:
    """One worker with one place, which is taken by `first`."""
    chosen = SchedulerLimits(flex_wait_seconds=limits.get("flex_wait_seconds", 300.0))
    fleet = FleetInTime(workers=1, places=1, policy=policy, limits=chosen)
    assert dispatched(fleet.arrive("first")) == ["first"]
    return fleet


def served(fleet: FleetInTime) -> list[str]:
    """The order in which those that wait are dispatched, each when the one before has finished."""
    order, running = [], "first"
    while placed := dispatched(fleet.finish(running)):
        [running] = placed
        order.append(running)
    return order


@each_policy
def test_priority_goes_before_default_and_default_before_flex(policy: str) -> None:
    fleet = busy(policy)
    fleet.arrive("f", tier="flex")
    fleet.arrive("d1", tier="default")
    fleet.arrive("p1", tier="priority")
    fleet.arrive("d2", tier="default")
    fleet.arrive("p2", tier="priority")
    # Under `energy` a single flex request opens no worker: it waits on.
    assert served(fleet) == ["p1", "p2", "d1", "d2", *(["f"] if policy != "energy" else [])]


@each_policy
def test_within_a_tier_the_earliest_deadline_goes_first(policy: str) -> None:
    fleet = busy(policy)
    fleet.arrive("late", deadline=90.0)
    fleet.arrive("none")
    fleet.arrive("soon", deadline=30.0)
    fleet.arrive("middle", deadline=60.0)
    assert served(fleet) == ["soon", "middle", "late", "none"]


def test_a_deadline_does_not_lift_a_request_over_its_tier() -> None:
    fleet = busy()
    fleet.arrive("soon", tier="default", deadline=30.0)
    fleet.arrive("p", tier="priority")
    assert served(fleet) == ["p", "soon"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(TIERS)), st.none() | st.floats(1.0, 500.0), st.floats(0, 3)), max_size=12)
)
def test_whatever_came_in_whatever_order_it_is_sorted(arrivals: list[tuple[str, float | None, float]]) -> None:
    fleet, keys = busy(), []
    for number, (tier, patience_seconds, gap_seconds) in enumerate(arrivals):
        fleet.now_seconds += gap_seconds
        deadline = None if patience_seconds is None else fleet.now_seconds + patience_seconds + 100.0
        fleet.arrive(f"r{number}", tier=tier, deadline=deadline)
        end = fleet.now_seconds + SchedulerLimits().queue_timeout_seconds
        keys.append((TIERS[tier], end if deadline is None else min(end, deadline), number))
    assert served(fleet) == [f"r{number}" for *_, number in sorted(keys)]


@each_policy
def test_a_flex_request_that_is_due_is_served_as_a_default_one(policy: str) -> None:
    fleet = busy(policy, flex_wait_seconds=10.0)
    fleet.arrive("f", tier="flex")
    fleet.until(11.0)
    fleet.arrive("d", tier="default")
    fleet.arrive("p", tier="priority")
    assert served(fleet) == ["p", "f", "d"]


@each_policy
def test_before_it_is_due_a_later_default_request_goes_first(policy: str) -> None:
    fleet = busy(policy, flex_wait_seconds=10.0)
    fleet.arrive("f", tier="flex")
    fleet.until(9.0)
    fleet.arrive("d", tier="default")
    assert served(fleet)[:1] == ["d"]


def test_a_flex_request_is_due_early_enough_for_its_own_deadline() -> None:
    fleet = FleetInTime(workers=1)
    assert dispatched(fleet.arrive("f", tier="flex", deadline=20.0)) == []
    assert dispatched(fleet.until(17.9)) == []
    assert dispatched(fleet.until(19.0)) == ["f"]


def test_a_flex_request_is_served_before_its_patience_ends_however_long_it_may_be_held() -> None:
    limits = SchedulerLimits(queue_timeout_seconds=20.0, flex_wait_seconds=300.0)
    fleet = FleetInTime(workers=1, limits=limits)
    assert dispatched(fleet.arrive("f", tier="flex")) == []
    assert dispatched(fleet.until(19.0)) == ["f"]


def test_a_flex_request_is_due_early_enough_for_a_worker_that_was_parked_meanwhile_to_start() -> None:
    fleet = FleetInTime(workers=1, limits=SchedulerLimits(min_workers=0), obeys=False)
    fleet.arrive("d")
    fleet.finish("d")
    start_seconds = 45.0  # of an H100, as believed
    assert dispatched(fleet.arrive("f", tier="flex", deadline=60.0)) == []
    assert "f" in dispatched(fleet.until(60.0 - start_seconds))


@each_policy
def test_a_deadline_that_has_passed_is_refused_at_once_even_with_room(policy: str) -> None:
    fleet = FleetInTime(workers=1, policy=policy)
    fleet.now_seconds = 100.0
    fleet.report("w0")
    [refusal] = fleet.arrive("r1", deadline=99.5)
    assert isinstance(refusal, Reject)
    assert (refusal.cause, refusal.retry_after_seconds) == (RejectCause.DEADLINE_PASSED, None)
    assert "0.500 s ago" in refusal.reason
    assert fleet.core.live_requests == 0


@each_policy
def test_one_that_waits_past_its_deadline_is_refused_at_that_instant(policy: str) -> None:
    fleet = busy(policy)
    fleet.arrive("r1", deadline=30.0)
    assert [command for command in fleet.until(29.9) if isinstance(command, Reject)] == []
    [refusal] = [command for command in fleet.until(30.0) if isinstance(command, Reject)]
    assert (refusal.request_id, refusal.cause) == ("r1", RejectCause.DEADLINE_PASSED)


@pytest.mark.parametrize("policy", ["least-loaded", "round-robin"])
def test_policies_that_know_no_better_moment_hold_nobody(policy: str) -> None:
    fleet = FleetInTime(workers=3, policy=policy)
    assert dispatched(fleet.arrive("f1", "f2", "f3", tier="flex")) == ["f1", "f2", "f3"]


def test_a_held_flex_request_does_not_hold_up_those_that_cannot_wait() -> None:
    fleet = FleetInTime(workers=1)
    assert fleet.arrive("f", tier="flex") == []
    assert fleet.core.snapshot().lanes[0].held_reason == "flex_waits"
    # It joins the batch that the other one began.
    assert dispatched(fleet.arrive("d")) == ["d", "f"]


def test_where_the_queue_is_full_of_those_that_can_wait_one_more_of_them_is_refused_and_others_are_served() -> None:
    fleet = FleetInTime(workers=1, limits=SchedulerLimits(max_queued_requests=2))
    fleet.arrive("held-0", tier="flex")
    fleet.arrive("held-1", tier="flex")
    [refusal] = fleet.arrive("held-2", tier="flex")
    assert isinstance(refusal, Reject)
    assert refusal.cause is RejectCause.QUEUE_FULL
    assert dispatched(fleet.arrive("urgent"))[0] == "urgent"
