"""The pool against the obvious model of it: a list, sorted anew each time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.pool import Pool
from scheduler.worker import Worker
from tests.contract.workers import Load, worker_of

PLACES = (1, 2, 4, 6, 3, 8)
NUMBERS = st.integers(0, len(PLACES) - 1)
# A worker takes on so many requests, leaves, is taken out, or is announced anew.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("load"), NUMBERS, st.integers(0, 8)),
        st.tuples(st.just("leave"), NUMBERS, st.just(0)),
        st.tuples(st.just("discard"), NUMBERS, st.just(0)),
        st.tuples(st.just("announce"), NUMBERS, st.integers(1, 8)),
    ),
    max_size=40,
)


def workers() -> list[Worker]:
    return [worker_of(Load(f"w{number}", 0, places), number + 1) for number, places in enumerate(PLACES)]


def after(pool: Pool, step: tuple[str, int, int], every: list[Worker], inside: set[str], announcement: int) -> None:
    """Take one step on the pool, and on `inside`, which is what the pool should hold."""
    what, number, amount = step
    worker = every[number]
    match what:
        case "load":
            worker.running_requests = min(amount, worker.max_running_requests)
        case "leave":
            worker.is_leaving = not worker.is_leaving
        case "announce":
            pool.discard(worker)
            worker.ready_number, worker.max_running_requests = announcement, max(amount, worker.running_requests, 1)
    if what == "discard":
        pool.discard(worker)
        inside.discard(worker.worker_id)
        return
    pool.refresh(worker)
    inside.discard(worker.worker_id)
    if worker.running_requests < worker.max_running_requests and not worker.is_leaving:
        inside.add(worker.worker_id)


def ids(found: list[Worker]) -> list[str]:
    return [worker.worker_id for worker in found]


@settings(deadline=None)
@given(STEPS)
def test_it_is_what_sorting_all_with_room_would_be(steps: list[tuple[str, int, int]]) -> None:
    pool, every = Pool(), workers()
    inside: set[str] = set()
    for announcement, step in enumerate(steps, start=100):
        after(pool, step, every, inside, announcement)
        held = [worker for worker in every if worker.worker_id in inside]
        assert len(pool) == len(held)
        assert [worker in pool for worker in every] == [worker.worker_id in inside for worker in every]
        share = {one.worker_id: one.running_requests / one.max_running_requests for one in held}
        fullest = sorted(held, key=lambda one: (-share[one.worker_id], one.ready_number))
        emptiest = sorted(held, key=lambda one: (share[one.worker_id], one.ready_number))
        assert ids(list(pool.fullest())) == ids(fullest)
        assert ids(list(pool.emptiest())) == ids(emptiest)


@settings(deadline=None)
@given(STEPS, st.sampled_from(["", "w0", "w3", "w5", "w9", "v"]))
def test_turns_go_round_by_id_once_to_each(steps: list[tuple[str, int, int]], last: str) -> None:
    pool, every = Pool(), workers()
    inside: set[str] = set()
    for announcement, step in enumerate(steps, start=100):
        after(pool, step, every, inside, announcement)
    expected = [one for one in sorted(inside) if one > last] + [one for one in sorted(inside) if one <= last]
    assert ids(list(pool.from_after(last))) == expected


def test_another_generation_of_a_worker_in_the_pool_is_not_in_it() -> None:
    pool = Pool()
    old, new = worker_of(Load("w1"), 1), worker_of(Load("w1"), 2)
    pool.refresh(old)
    assert old in pool
    assert new not in pool


def test_a_worker_whose_load_changed_unseen_is_not_in_it() -> None:
    pool, worker = Pool(), worker_of(Load("w1"), 1)
    pool.refresh(worker)
    worker.running_requests += 1
    assert worker not in pool
    pool.refresh(worker)
    assert worker in pool


def test_something_that_is_no_worker_is_not_in_it() -> None:
    assert "w1" not in Pool()


def test_taking_out_one_that_is_not_there_is_no_error() -> None:
    pool = Pool()
    pool.discard(worker_of(Load("w1"), 1))
    assert len(pool) == 0
    assert list(pool.from_after("")) == []
