"""The cancellable priority queue against the obvious model of it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.ordered_ids import OrderedIds

IDS = st.sampled_from([f"r{number}" for number in range(8)])
STEPS = st.lists(st.one_of(st.tuples(st.just("push"), IDS, st.integers(0, 5)), st.tuples(st.just("discard"), IDS)))


@settings(deadline=None)
@given(STEPS)
def test_it_behaves_as_a_sorted_dictionary(steps: list[tuple[str, str] | tuple[str, str, int]]) -> None:
    queue: OrderedIds[int] = OrderedIds()
    model: dict[str, int] = {}
    for step in steps:
        if len(step) == 3:
            queue.push(step[2], step[1])
            model[step[1]] = step[2]
        else:
            queue.discard(step[1])
            model.pop(step[1], None)
        in_order = sorted((key, request_id) for request_id, key in model.items())
        assert queue.first() == (in_order[0] if in_order else None)
        assert sorted(queue.entries()) == in_order
        assert len(queue) == len(model)
        assert all(request_id in queue for request_id in model)


def test_dead_entries_do_not_pile_up_behind_a_head_that_stays() -> None:
    queue: OrderedIds[int] = OrderedIds()
    queue.push(0, "head")
    for number in range(1, 10_000):
        queue.push(number, f"r{number}")
        queue.discard(f"r{number}")
    assert queue.first() == (0, "head")
    assert len(queue._heap) < 200
