"""Servers of other versions are read too, and what is no Wattline is told apart."""

from typing import Any

import pytest

from server.top.errors import NotWattlineError
from server.top.live_body import read_live_body
from tests.live_body import live_body, live_request


def test_what_is_new_is_left_alone_and_what_is_missing_is_not_known() -> None:
    body = read_live_body({"object": "energy.live", "at_unix_seconds": 1, "moon_phase": 3, "power_watts": None})
    assert body.power_watts == {}
    assert body.workers == ()
    assert body.measured is None


@pytest.mark.parametrize("body", [None, [], "text", {}, {"object": "list"}, live_body(workers=[{}])])
def test_something_else_is_refused(body: Any) -> None:
    with pytest.raises(NotWattlineError, match="is not what this wattline reads"):
        read_live_body(body)


def test_nothing_that_a_caller_wrote_moves_the_cursor() -> None:
    body = read_live_body(live_body(recent_requests=[live_request(0, model="a\x1b[2Jb\nc", tenant="größe 統")]))
    assert body.recent_requests[0].model == "a·[2Jb·c"
    assert body.recent_requests[0].tenant == "größe 統"
