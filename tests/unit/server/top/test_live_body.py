"""Servers of other versions are read too, and what is no Wattline is told apart."""

from typing import Any

import pytest

from server.top.errors import NotWattlineError
from server.top.live_body import read_live_body
from tests.live_body import live_body, live_worker


def test_what_is_new_is_left_alone_and_what_is_missing_is_not_known() -> None:
    body = read_live_body({"object": "energy.live", "at_unix_seconds": 1, "moon_phase": 3, "power_watts": None})
    assert body.power_watts == {}
    assert body.workers == ()
    assert body.measured is None


@pytest.mark.parametrize("body", [None, [], "text", {}, {"object": "list"}, live_body(workers=[{}])])
def test_something_else_is_refused(body: Any) -> None:
    with pytest.raises(NotWattlineError, match="is not what this wattline reads"):
        read_live_body(body)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e300, 10**400])
def test_what_cannot_be_added_up_is_refused(number: float) -> None:
    with pytest.raises(NotWattlineError, match=r"power_watts\.gpu"):
        read_live_body(live_body(power_watts={"gpu": number}))


def test_words_that_a_terminal_would_obey_are_escaped() -> None:
    evil, escaped = "\x1b[2J\ud800", r"\x1b[2J\ud800"
    body = read_live_body(live_body(power_watts={evil: 1.0}, reason=evil, workers=[live_worker(evil, model=evil)]))
    assert body.reason == escaped
    assert list(body.power_watts) == [escaped]
    assert (body.workers[0].worker_id, body.workers[0].model) == (escaped, escaped)
    with pytest.raises(NotWattlineError) as refused:
        read_live_body(live_body(tokens={evil: "many"}))
    assert r"\x1b[2J" in str(refused.value)
