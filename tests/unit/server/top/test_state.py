"""What the screen holds, by what has come and which keys were pressed."""

from server.top.live_body import read_live_body
from server.top.state import TopState
from tests.live_body import live_body


def test_a_silence_is_a_gap_and_keeps_when_it_began() -> None:
    state = TopState().received(read_live_body(live_body()))
    state = state.lost("refused", 10.0).lost("refused still", 15.0)
    assert state.watts == (329.0, None, None)
    assert (state.lost_at_seconds, state.cause) == (10.0, "refused still")
    assert state.shown is not None, "what was last known stays to be read"
    state = state.received(read_live_body(live_body()))
    assert state.lost_at_seconds is None
    assert state.cause is None


def test_while_paused_the_screen_holds_and_the_curve_goes_on() -> None:
    first, second = (read_live_body(live_body(version=version)) for version in ("1", "2"))
    state = TopState().received(first).paused().received(second)
    assert state.shown == first
    assert len(state.watts) == 2
    assert state.paused().shown == second


def test_paused_before_anything_came_the_first_answer_is_shown() -> None:
    body = read_live_body(live_body())
    assert TopState().paused().received(body).shown == body


def test_power_that_is_known_in_part_is_not_known() -> None:
    state = TopState().received(read_live_body(live_body(power_watts={"gpu": 1.0, "cpu": None})))
    assert state.received(read_live_body(live_body(power_watts={}))).watts == (None, None)


def test_views_go_round() -> None:
    state = TopState()
    assert [state.stepped(steps).view for steps in (1, 4, -1)] == ["workers", "overview", "tenants"]


def test_the_past_is_bounded() -> None:
    state, body = TopState(), read_live_body(live_body())
    for _ in range(600):
        state = state.received(body)
    assert len(state.watts) == 500
