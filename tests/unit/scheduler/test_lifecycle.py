"""The life-cycle table, read as the protocol it is."""

import pytest

from scheduler.commands import Dispatch, Reject
from scheduler.errors import ProtocolError
from scheduler.events import DispatchFailed, RequestArrived, RequestCancelled, RequestFinished
from scheduler.lifecycle import TRANSITIONS, RequestState, StaleDispatchFailed, next_state

HAPPENINGS = (
    RequestArrived,
    Dispatch,
    Reject,
    RequestFinished,
    RequestCancelled,
    DispatchFailed,
    StaleDispatchFailed,
)
LEGAL = {(state, happened) for state, row in TRANSITIONS.items() for happened in row}


def test_the_table_has_a_row_for_each_state_and_knows_nothing_else() -> None:
    assert set(TRANSITIONS) == set(RequestState)
    assert {happened for _, happened in LEGAL} == set(HAPPENINGS)


@pytest.mark.parametrize(
    ("state", "happened"),
    [(state, happened) for state in RequestState for happened in HAPPENINGS if (state, happened) not in LEGAL],
)
def test_what_the_table_lacks_is_a_protocol_error(state: RequestState, happened: type) -> None:
    with pytest.raises(ProtocolError, match=f"{happened.__name__} cannot happen to request r1, which is {state.value}"):
        next_state(state, happened, "r1")


def test_a_request_can_fail_over_any_number_of_times_and_still_finish() -> None:
    state = next_state(RequestState.ABSENT, RequestArrived, "r1")
    for _ in range(3):
        state = next_state(state, Dispatch, "r1")
        state = next_state(state, DispatchFailed, "r1")
    state = next_state(state, Dispatch, "r1")
    assert next_state(state, RequestFinished, "r1") is RequestState.ABSENT


def test_every_state_can_end() -> None:
    for state in RequestState:
        assert next_state(state, RequestCancelled, "r1") is RequestState.ABSENT
