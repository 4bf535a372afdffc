import pytest

from server.api_error import ApiError
from server.deadline import deadline_at_seconds

NOW_SECONDS = 1000.0
NOW_UNIX_SECONDS = 1_700_000_000.0


def deadline(**headers: str) -> float | None:
    """`seconds` and `unix_seconds` as a server gets them: names in lower case."""
    given = [(f"x-deadline-{name.replace('_', '-')}".encode(), value.encode()) for name, value in headers.items()]
    return deadline_at_seconds([(b"accept", b"*/*"), *given], NOW_SECONDS, NOW_UNIX_SECONDS)


def test_without_a_header_there_is_none() -> None:
    assert deadline() is None


@pytest.mark.parametrize(("text", "at"), [("2.5", 1002.5), ("0", 1000), ("-3", 997), (" 1e2 ", 1100)])
def test_seconds_count_from_arrival(text: str, at: float) -> None:
    assert deadline(seconds=text) == at


def test_an_instant_of_the_day_becomes_one_of_the_monotonic_clock() -> None:
    assert deadline(unix_seconds="1700000002.5") == 1002.5
    assert deadline(unix_seconds="1699999999") == 999


def test_of_two_the_earlier_holds() -> None:
    assert deadline(seconds="5", unix_seconds="1700000002") == 1002
    assert deadline(seconds="1", unix_seconds="1700000002") == 1001


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "-inf", "1e10", "1,5", "0x10", "\xff"])
def test_what_is_no_number_of_seconds_is_refused_by_the_name_of_its_header(text: str) -> None:
    with pytest.raises(ApiError, match=r"^X-Deadline-Seconds: expected a number of seconds from now") as error:
        deadline(seconds=text)
    assert (error.value.status, error.value.code, error.value.param) == (400, "invalid_deadline", "X-Deadline-Seconds")


def test_milliseconds_since_1970_are_not_taken_for_seconds() -> None:
    with pytest.raises(ApiError, match=r"^X-Deadline-Unix-Seconds: expected an instant in seconds, not milliseconds"):
        deadline(unix_seconds="1700000000000")
