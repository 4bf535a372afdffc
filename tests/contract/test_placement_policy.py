"""What the core relies on of every placement policy."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.events import RequestArrived
from scheduler.placement import Hold, Placement
from scheduler.policy import POLICIES
from scheduler.pool import Pool
from scheduler.request import Request
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker
from tests.contract.workers import Load, pool_of, request_of

TARGETS = LatencyTargets()


@st.composite
def loads_with_room(draw: st.DrawFn) -> list[Load]:
    worker_ids = draw(
        st.lists(st.sampled_from([f"w{number}" for number in range(40)]), min_size=1, max_size=30, unique=True)
    )
    loads = []
    for worker_id in worker_ids:
        places = draw(st.integers(1, 256))
        hardware = draw(st.sampled_from([None, "h100", "cpu", "never heard of"]))
        loads.append(Load(worker_id, draw(st.integers(0, places - 1)), places, hardware))
    return loads


ARRIVALS = st.builds(
    RequestArrived,
    request_id=st.just("r1"),
    model=st.sampled_from(["a", "b"]),
    tier=st.sampled_from(["priority", "default", "flex"]),
    prompt_bytes=st.integers(0, 1 << 20),
    max_output_tokens=st.none() | st.integers(1, 4096),
    deadline_at_seconds=st.none() | st.floats(1e3, 1e6),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    arrival = draw(ARRIVALS)
    request = request_of(arrival, may_wait=arrival.tier == "flex" and draw(st.booleans()))
    request.avoided_ready_numbers = frozenset(draw(st.sets(st.integers(2, 31), max_size=2)))
    return request


CALLS = st.lists(st.tuples(requests(), loads_with_room(), st.integers(0, 40)), min_size=1, max_size=6)
Call = tuple[Request, list[Load], int]

property_settings = settings(max_examples=25, deadline=None)
each_policy = pytest.mark.parametrize("name", sorted(POLICIES))


def chosen(name: str, calls: list[Call]) -> list[Placement | Hold]:
    policy = POLICIES[name](TARGETS)
    return [
        policy.choose(request, pool_of(loads, waiting), float(at)) for at, (request, loads, waiting) in enumerate(calls)
    ]


@each_policy
@property_settings
@given(calls=CALLS)
def test_only_an_offered_worker_is_chosen(name: str, calls: list[Call]) -> None:
    for placement, (request, loads, _) in zip(chosen(name, calls), calls, strict=True):
        usable = {worker.worker_id for worker in pool_of(loads).emptiest() if request.may_use(worker)}
        assert isinstance(placement, Hold) or placement.worker_id in usable


@each_policy
@property_settings
@given(calls=CALLS)
def test_only_a_request_that_may_wait_is_held(name: str, calls: list[Call]) -> None:
    for placement, (request, _, _) in zip(chosen(name, calls), calls, strict=True):
        assert isinstance(placement, Placement) or request.may_wait


@each_policy
@property_settings
@given(calls=CALLS)
def test_the_same_calls_give_the_same_choices(name: str, calls: list[Call]) -> None:
    assert chosen(name, calls) == chosen(name, calls)


@each_policy
@property_settings
@given(request=requests(), loads=loads_with_room())
def test_what_was_offered_is_only_read(name: str, request: Request, loads: list[Load]) -> None:
    pool = pool_of(loads)
    before = [(worker.worker_id, worker.running_requests) for worker in pool.emptiest()], request.order
    POLICIES[name](TARGETS).choose(request, pool, 0.0)
    assert ([(worker.worker_id, worker.running_requests) for worker in pool.emptiest()], request.order) == before


@each_policy
@property_settings
@given(calls=CALLS)
def test_a_reason_is_a_short_label(name: str, calls: list[Call]) -> None:
    for placement in chosen(name, calls):
        assert placement.reason.replace("_", "").isalpha()
        assert placement.reason.islower()
        assert len(placement.reason) <= 24


@each_policy
def test_each_made_policy_remembers_only_for_itself(name: str) -> None:
    loads = [Load("w0"), Load("w1")]
    request = request_of(RequestArrived("r1", "a"))
    POLICIES[name](TARGETS).choose(request, pool_of(loads), 0.0)
    assert POLICIES[name](TARGETS).choose(request, pool_of(loads), 0.0) == chosen(name, [(request, loads, 0)])[0]


@each_policy
def test_a_thousand_workers_are_not_all_looked_at(name: str) -> None:
    looked_at = 0

    class Counting(Pool):
        def fullest(self) -> Iterator[Worker]:
            nonlocal looked_at
            for worker in super().fullest():
                looked_at += 1
                yield worker

        def emptiest(self) -> Iterator[Worker]:
            nonlocal looked_at
            for worker in super().emptiest():
                looked_at += 1
                yield worker

    pool = Counting()
    for worker in pool_of([Load(f"w{number}", 3, hardware="cpu") for number in range(1000)]).emptiest():
        pool.refresh(worker)
    POLICIES[name](LatencyTargets(1e-6, 1e-6)).choose(request_of(RequestArrived("r1", "a")), pool, 0.0)
    assert looked_at <= 20
