"""What distinguishes each policy; what they share is in the contract suite."""

from dataclasses import dataclass

import pytest

from scheduler.events import RequestArrived, WorkerReported
from scheduler.policy import LeastLoaded, Placement, RoundRobin


@dataclass
class FakeWorker:
    worker_id: str
    running_requests: int = 0
    max_running_requests: int = 4
    reported: WorkerReported | None = None


REQUEST = RequestArrived("r1", "m")


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
    workers = [FakeWorker(f"w{number}", taken, places) for number, (taken, places) in enumerate(loads)]
    assert LeastLoaded().choose(REQUEST, workers, 0.0) == Placement(expected, "least_loaded")


def test_round_robin_takes_turns_by_id_whatever_the_order_offered() -> None:
    policy = RoundRobin()
    workers = [FakeWorker("w2"), FakeWorker("w0"), FakeWorker("w1")]
    assert [placed(policy, "m", workers) for _ in range(4)] == ["w0", "w1", "w2", "w0"]


def test_round_robin_keeps_its_turn_while_workers_are_full_or_gone() -> None:
    policy = RoundRobin()
    w0, w1, w2 = (FakeWorker(f"w{number}") for number in range(3))
    assert placed(policy, "m", [w0, w1, w2]) == "w0"
    assert placed(policy, "m", [w0, w2]) == "w2"
    assert placed(policy, "m", [w1]) == "w1"
    assert placed(policy, "m", [w0, w1, w2]) == "w2"


def test_round_robin_counts_turns_per_model() -> None:
    policy = RoundRobin()
    workers = [FakeWorker("w0"), FakeWorker("w1")]
    assert [placed(policy, model, workers) for model in ("a", "b", "a", "b")] == ["w0", "w0", "w1", "w1"]


@pytest.mark.parametrize("policy", [LeastLoaded(), RoundRobin()])
def test_the_only_worker_with_room_is_named_as_such(policy: LeastLoaded | RoundRobin) -> None:
    assert policy.choose(REQUEST, [FakeWorker("w0", 3)], 0.0) == Placement("w0", "only_worker")


def placed(policy: RoundRobin, model: str, workers: list[FakeWorker]) -> str:
    placement = policy.choose(RequestArrived("r1", model), workers, 0.0)
    assert placement is not None
    return placement.worker_id
