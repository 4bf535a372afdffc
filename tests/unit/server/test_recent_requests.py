from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.recent_requests import RecentRequests


def told(*numbers: int) -> list[dict[str, Any]]:
    return [
        {"request_id": str(number), "outcome": "completed", "prefill_microjoules": number, "decode_microjoules": 0}
        for number in numbers
    ]


def ids(checked: Any) -> list[str]:
    return [one.request_id for one in checked]


@given(st.lists(st.lists(st.integers(0, 3), max_size=8), max_size=6), st.integers(1, 5))
def test_the_entries_are_those_that_were_told_however_the_list_grows(pieces: list[list[int]], most: int) -> None:
    recent = RecentRequests()
    kept: list[int] = []
    for piece in pieces:
        kept = (kept + piece)[-most:]
        assert ids(recent.read(told(*kept))) == [str(number) for number in kept]


def test_what_was_checked_is_not_checked_again() -> None:
    recent = RecentRequests()
    (first,) = recent.read(told(1))
    again, _ = recent.read(told(1, 2))
    assert again is first


def test_one_bad_entry_is_refused_and_what_came_before_is_still_known() -> None:
    recent = RecentRequests()
    recent.read(told(1))
    with pytest.raises(ValueError, match="prefill_microjoules"):
        recent.read(told(1, -5))
    assert ids(recent.read(told(1, 2))) == ["1", "2"]


def test_what_is_no_list_is_for_others_to_refuse() -> None:
    assert RecentRequests().read("nonsense") == "nonsense"
