import math

from hypothesis import given
from hypothesis import strategies as st

from server.access.rate_window import WINDOW_SECONDS, RateLimit, WindowStorage

GAPS = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 12)), max_size=80)


def limit_of(amount: int, storage: WindowStorage | None = None) -> RateLimit:
    return RateLimit(storage or WindowStorage(), "requests/a", amount)


def allows(limit: RateLimit, cost: int, now_seconds: float) -> bool:
    """Whether as much could be taken; afterwards nothing is."""
    is_taken = limit.take(cost, now_seconds)
    if is_taken:
        limit.correct(cost, now_seconds, 0, now_seconds)
    return is_taken


def test_so_many_are_taken_and_no_more() -> None:
    limit = limit_of(3)
    assert [limit.take(1, 600.0 + i) for i in range(5)] == [True, True, True, False, False]
    assert limit.remaining(605.0)[0] == 0
    assert not allows(limit, 1, 605.0)


def test_the_minute_before_fades_evenly() -> None:
    limit = limit_of(10)
    assert limit.take(10, 600.0)
    assert not allows(limit, 1, 660.0)
    assert limit.remaining(690.0) == (5, 30.0)
    assert allows(limit, 5, 690.0)
    assert not allows(limit, 6, 690.0)
    assert limit.remaining(720.0) == (10, 0.0)


def test_reset_is_when_nothing_counts_any_more() -> None:
    limit = limit_of(10)
    assert limit.remaining(610.0) == (10, 0.0)
    limit.take(1, 610.0)
    assert limit.remaining(610.0) == (9, 110.0)


def test_what_was_used_beyond_the_estimate_counts_even_above_the_limit() -> None:
    limit = limit_of(100)
    assert limit.take(10, 600.0)
    limit.correct(10, 600.0, 250, 610.0)
    assert limit.remaining(610.0) == (0, 110.0)
    assert not allows(limit, 1, 660.0)


def test_what_was_not_used_is_given_back_to_the_minute_it_was_taken_in() -> None:
    limit = limit_of(100)
    assert limit.take(80, 600.0)
    limit.correct(80, 600.0, 30, 659.0)
    assert limit.remaining(659.0)[0] == 70
    assert limit.take(70, 659.0)
    limit.correct(70, 659.0, 10, 661.0)  # now the minute before: 30 + 10, of which 59 sixtieths count
    assert limit.remaining(661.0)[0] == 100 - math.floor(40 * 59 / 60)
    limit.correct(30, 600.0, 0, 900.0)  # long forgotten
    assert limit.remaining(900.0)[0] == 100


def test_a_window_outlives_a_change_of_its_limit() -> None:
    storage = WindowStorage()
    assert limit_of(10, storage).take(8, 600.0)
    assert limit_of(20, storage).remaining(600.0)[0] == 12
    assert limit_of(5, storage).remaining(600.0)[0] == 0


def test_windows_of_several_owners_know_nothing_of_each_other() -> None:
    storage = WindowStorage()
    one, other = RateLimit(storage, "requests/a", 1), RateLimit(storage, "requests/b", 1)
    assert one.take(1, 600.0)
    assert other.take(1, 600.0)
    assert not one.take(1, 600.0)


def test_more_than_the_limit_is_never_taken_at_once() -> None:
    limit = limit_of(5)
    assert not limit.take(6, 600.0)
    assert limit.seconds_until(6, 600.0) == math.inf
    assert limit.remaining(600.0)[0] == 5


@given(gaps=GAPS, amount=st.integers(1, 30))
def test_never_more_than_the_limit_in_a_fixed_minute_nor_twice_of_it_in_any(
    gaps: list[tuple[float, int]], amount: int
) -> None:
    limit, now = limit_of(amount), 0.0
    taken: list[tuple[float, int]] = []
    for gap, cost in gaps:
        now += gap
        allowed = allows(limit, cost, now)
        assert limit.take(cost, now) == allowed
        if allowed:
            taken.append((now, cost))
    for at, _ in taken:
        number = at // WINDOW_SECONDS
        assert sum(cost for when, cost in taken if when // WINDOW_SECONDS == number) <= amount
        assert sum(cost for when, cost in taken if at <= when < at + WINDOW_SECONDS) <= 2 * amount


@given(gaps=GAPS, amount=st.integers(1, 30), cost=st.integers(1, 30))
def test_who_waits_as_long_as_told_is_let_in_and_not_much_earlier(
    gaps: list[tuple[float, int]], amount: int, cost: int
) -> None:
    limit, now = limit_of(amount), 0.0
    for gap, taken in gaps:
        now += gap
        limit.take(taken, now)
    seconds = limit.seconds_until(cost, now)
    if cost > amount:
        assert seconds == math.inf
        return
    assert 0 <= seconds <= 2 * WINDOW_SECONDS
    if seconds > 0.01:
        assert not allows(limit, cost, now + seconds - 0.01)
    assert allows(limit, cost, now + seconds + 0.01)


@given(gaps=GAPS, amount=st.integers(1, 30), used=st.integers(0, 60))
def test_corrections_never_leave_less_than_nothing_counted(
    gaps: list[tuple[float, int]], amount: int, used: int
) -> None:
    limit, now = limit_of(amount), 0.0
    for gap, cost in gaps:
        taken_at = now
        if limit.take(cost, now):
            now += gap
            limit.correct(cost, taken_at, used, now)
        else:
            now += gap
        assert 0 <= limit.remaining(now)[0] <= amount


def test_the_librarys_whole_interface_answers() -> None:
    storage = WindowStorage()
    storage.now_seconds = 600.0
    assert storage.check()
    assert storage.get("a") == 0
    assert storage.get_expiry("a") == 600.0
    assert storage.incr("a", WINDOW_SECONDS, 3) == storage.get("a") == 3
    assert storage.get_expiry("a") == 720.0
    storage.clear_sliding_window("a", WINDOW_SECONDS)
    assert storage.get("a") == 0
    storage.incr("b", WINDOW_SECONDS)
    assert storage.reset() == 1
