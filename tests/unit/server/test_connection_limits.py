from hypothesis import given
from hypothesis import strategies as st

from server.connection_limits import Awaited, ConnectionLimits, SenderWatch

LIMITS = ConnectionLimits(head_timeout_seconds=10.0, body_stall_seconds=5.0)


def test_a_head_must_be_whole_in_time_from_the_connection_on() -> None:
    watch = SenderWatch(LIMITS, 100.0)
    assert watch.awaited is Awaited.HEAD
    assert watch.remaining_seconds(104.0) == 6.0
    assert watch.remaining_seconds(110.0) == 0.0


def test_a_body_may_take_long_while_it_comes() -> None:
    watch = SenderWatch(LIMITS, 0.0)
    watch.head_ends(1.0)
    for second in range(2, 60, 4):
        assert watch.remaining_seconds(float(second)) > 0
        watch.excuse(float(second))
    assert watch.remaining_seconds(63.1) < 0


def test_between_requests_nothing_is_due() -> None:
    watch = SenderWatch(LIMITS, 0.0)
    watch.head_ends(1.0)
    watch.body_ends()
    assert watch.remaining_seconds(1e6) == 5.0
    watch.head_begins(1e6)
    assert watch.remaining_seconds(1e6) == 10.0


@given(st.lists(st.sampled_from(["begin", "end", "bytes", "done"]), max_size=30), st.floats(0.01, 4.9))
def test_who_keeps_sending_is_never_late(steps: list[str], pause_seconds: float) -> None:
    watch, now = SenderWatch(LIMITS, 0.0), 0.0
    for step in steps:
        now += pause_seconds
        if watch.awaited is not Awaited.HEAD:
            assert watch.remaining_seconds(now) > 0
        match step:
            case "begin":
                watch.head_begins(now)
            case "end":
                watch.head_ends(now)
            case "bytes" if watch.awaited is Awaited.BODY:
                watch.excuse(now)
            case "done":
                watch.body_ends()
