from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ended_requests import EndedRequests


def told(*numbers: int) -> list[dict[str, Any]]:
    return [
        {"request_id": str(number), "outcome": "completed", "prefill_microjoules": number, "decode_microjoules": 0}
        for number in numbers
    ]


def fresh(before: list[int], now: list[int]) -> list[int]:
    return [int(one.request_id) for one in EndedRequests(told(*before)).fresh_of(told(*now))]


@given(st.lists(st.lists(st.integers(), max_size=8), max_size=6), st.integers(8, 12))
def test_every_request_is_new_once_however_the_list_grows_and_is_cut(pieces: list[list[int]], most: int) -> None:
    recent, kept, seen = EndedRequests(), list[int](), list[str]()
    numbers = iter(range(1000))
    for piece in pieces:
        kept = (kept + [next(numbers) for _ in piece])[-most:]
        now = told(*kept)
        seen += [one.request_id for one in recent.fresh_of(now)]
        recent = EndedRequests(now)
    assert seen == [str(number) for number in range(sum(map(len, pieces)))]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ([], [1, 2], [1, 2]),
        ([1, 2], [1, 2], []),
        ([1, 2, 3], [3, 4], [4]),
        ([1, 1], [1, 1, 1], [1]),
        ([1, 2], [2, 1], [1]),  # the first has left, and a caller has used its id again
        ([1, 2], [3, 2, 1], [3]),
        ([1, 2], [], []),
        ([1, 2], [5, 6], [5, 6]),
    ],
)
def test_what_is_new_is_told_by_how_often_it_is_there(before: list[int], now: list[int], expected: list[int]) -> None:
    assert fresh(before, now) == expected


@pytest.mark.parametrize("nonsense", ["text", None, [{"request_id": "1"}], [7]])
@pytest.mark.parametrize("before", [[], [1]])
def test_what_is_no_list_of_requests_is_refused(nonsense: Any, before: list[int]) -> None:
    with pytest.raises(ValueError, match="EndedRequest"):
        EndedRequests(told(*before)).fresh_of(nonsense)


def test_a_new_entry_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="prefill_microjoules"):
        EndedRequests(told(1)).fresh_of(told(1, -5))
