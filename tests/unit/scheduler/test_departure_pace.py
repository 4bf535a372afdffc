"""The estimate behind `Retry-After`."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.departure_pace import DeparturePace


def test_nothing_measured_gives_the_least_that_http_allows() -> None:
    assert DeparturePace().retry_after_seconds(1000, longest_seconds=600.0) == 1


def test_a_steady_pace_gives_the_time_to_place_the_whole_queue() -> None:
    pace = DeparturePace()
    for number in range(20):
        pace.departed(number * 0.5)
    assert pace.retry_after_seconds(30, longest_seconds=600.0) == 15
    assert pace.retry_after_seconds(31, longest_seconds=600.0) == 16  # 15.5 s, never too early


def test_an_idle_gap_does_not_count_as_slow_service() -> None:
    pace = DeparturePace()
    pace.departed(0.0)
    pace.departed(1.0)
    pace.queue_formed()
    pace.departed(1000.0)
    pace.departed(1001.0)
    assert pace.retry_after_seconds(10, longest_seconds=600.0) == 10


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=20),
    st.integers(0, 5000),
    st.floats(0.001, 1e6),
)
def test_the_answer_is_at_least_a_second_and_never_beyond_the_longest_wait(
    instants: list[float], queued_requests: int, longest_seconds: float
) -> None:
    pace = DeparturePace()
    for instant in sorted(instants):
        pace.departed(instant)
    answer = pace.retry_after_seconds(queued_requests, longest_seconds)
    assert 1 <= answer < longest_seconds + 1 or answer == 1
