"""What distinguishes each simple policy; what they share is in the contract suite."""

import pytest

from scheduler.events import RequestArrived
from scheduler.least_loaded import LeastLoaded
from scheduler.placement import Placement
from scheduler.policy import RoundRobin
from tests.contract.workers import Load, pool_of, request_of

REQUEST = request_of(RequestArrived("r1", "m"))


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ([(2, 4), (1, 4), (3, 4)], "w1"),
        ([(1, 4), (1, 4), (1, 4)], "w0"),
        ([(2, 4), (3, 8), (1, 2)], "w1"),
        ([(1, 3), (2, 6), (3, 9)], "w0"),
        ([(3, 4), (0, 1), (0, 100)], "w1"),
    ],
    ids=["fewest", "equals: first ready", "share, not number", "equal shares are equal", "empty ones are equal"],
)
def test_least_loaded_takes_the_least_share_of_places(loads: list[tuple[int, int]], expected: str) -> None:
    pool = pool_of([Load(f"w{number}", taken, places) for number, (taken, places) in enumerate(loads)])
    assert LeastLoaded().choose(REQUEST, pool, 0.0) == Placement(expected, "least_loaded")


def test_round_robin_takes_turns_by_id_whatever_the_order_offered() -> None:
    policy = RoundRobin()
    assert [placed(policy, "m", "w2", "w0", "w1") for _ in range(4)] == ["w0", "w1", "w2", "w0"]


def test_round_robin_keeps_its_turn_while_workers_are_full_or_gone() -> None:
    policy = RoundRobin()
    assert placed(policy, "m", "w0", "w1", "w2") == "w0"
    assert placed(policy, "m", "w0", "w2") == "w2"
    assert placed(policy, "m", "w1") == "w1"
    assert placed(policy, "m", "w0", "w1", "w2") == "w2"


def test_round_robin_counts_turns_per_model() -> None:
    policy = RoundRobin()
    assert [placed(policy, model, "w0", "w1") for model in ("a", "b", "a", "b")] == ["w0", "w0", "w1", "w1"]


@pytest.mark.parametrize("policy", [LeastLoaded(), RoundRobin()])
def test_the_only_worker_with_room_is_named_as_such(policy: LeastLoaded | RoundRobin) -> None:
    assert policy.choose(REQUEST, pool_of([Load("w0", 3)]), 0.0) == Placement("w0", "only_worker")


def placed(policy: RoundRobin, model: str, *worker_ids: str) -> str:
    pool = pool_of([Load(worker_id) for worker_id in worker_ids])
    return policy.choose(request_of(RequestArrived("r1", model)), pool, 0.0).worker_id
