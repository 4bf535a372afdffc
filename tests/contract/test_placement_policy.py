"""What the core relies on of every placement policy."""

import copy
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.events import RequestArrived, WorkerReported
from scheduler.policy import POLICIES, Placement


@dataclass
class FakeWorker:
    worker_id: str
    running_requests: int
    max_running_requests: int
    reported: WorkerReported | None


@st.composite
def workers_with_room(draw: st.DrawFn) -> list[FakeWorker]:
    worker_ids = draw(
        st.lists(st.sampled_from([f"w{number}" for number in range(12)]), min_size=1, max_size=5, unique=True)
    )
    workers = []
    for worker_id in worker_ids:
        places = draw(st.integers(1, 256))
        reported = draw(st.one_of(st.none(), st.builds(WorkerReported, st.just(worker_id), COUNTS, COUNTS)))
        workers.append(FakeWorker(worker_id, draw(st.integers(0, places - 1)), places, reported))
    return workers


COUNTS = st.integers(0, 300)
REQUESTS = st.builds(
    RequestArrived,
    request_id=st.just("r1"),
    model=st.sampled_from(["a", "b"]),
    tier=st.sampled_from(["priority", "default", "flex"]),
    prompt_bytes=st.integers(0, 1 << 20),
    max_output_tokens=st.none() | st.integers(1, 4096),
    deadline_at_seconds=st.none() | st.floats(1e3, 1e6),
)
CALLS = st.lists(st.tuples(REQUESTS, workers_with_room()), min_size=1, max_size=6)

property_settings = settings(max_examples=25, deadline=None)
each_policy = pytest.mark.parametrize("name", sorted(POLICIES))


def chosen(name: str, calls: list[tuple[RequestArrived, list[FakeWorker]]]) -> list[Placement | None]:
    policy = POLICIES[name]()
    return [policy.choose(request, workers, float(at)) for at, (request, workers) in enumerate(calls)]


@each_policy
@property_settings
@given(calls=CALLS)
def test_only_an_offered_worker_is_chosen(name: str, calls: list[tuple[RequestArrived, list[FakeWorker]]]) -> None:
    for placement, (_, workers) in zip(chosen(name, calls), calls, strict=True):
        assert placement is None or placement.worker_id in {worker.worker_id for worker in workers}


@each_policy
@property_settings
@given(calls=CALLS)
def test_the_same_calls_give_the_same_choices(name: str, calls: list[tuple[RequestArrived, list[FakeWorker]]]) -> None:
    assert chosen(name, calls) == chosen(name, calls)


@each_policy
@property_settings
@given(calls=CALLS)
def test_what_was_offered_is_only_read(name: str, calls: list[tuple[RequestArrived, list[FakeWorker]]]) -> None:
    before = copy.deepcopy(calls)
    chosen(name, calls)
    assert calls == before


@each_policy
@property_settings
@given(calls=CALLS)
def test_a_reason_is_a_short_label(name: str, calls: list[tuple[RequestArrived, list[FakeWorker]]]) -> None:
    for placement in chosen(name, calls):
        if placement is not None:
            assert placement.reason.replace("_", "").isalpha()
            assert placement.reason.islower()
            assert len(placement.reason) <= 24


@each_policy
def test_each_made_policy_remembers_only_for_itself(name: str) -> None:
    workers = [FakeWorker("w0", 0, 4, None), FakeWorker("w1", 0, 4, None)]
    request = RequestArrived("r1", "a")
    used = POLICIES[name]()
    used.choose(request, workers, 0.0)
    assert POLICIES[name]().choose(request, workers, 0.0) == chosen(name, [(request, workers)])[0]


@each_policy
def test_an_urgent_request_is_not_held_where_there_is_room(name: str) -> None:
    workers = [FakeWorker("w0", 3, 4, None), FakeWorker("w1", 0, 4, None)]
    for tier in ("priority", "default"):
        assert POLICIES[name]().choose(RequestArrived("r1", "a", tier), workers, 0.0) is not None
