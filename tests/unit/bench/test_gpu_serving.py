"""The books of a metered server against a second reader of the board."""

from typing import Any

import pytest

from bench.gpu.board import Board, BoardLog, Refresh
from bench.gpu.serving import law

START_MICROJOULES = 7_000_000


def look(at_seconds: float, counter: int, *, idle: int, in_flight: int = 0, ahead: int = 0) -> tuple[float, Any]:
    return at_seconds, {
        "counter_microjoules": counter,
        "extrapolated_microjoules": ahead,
        "accounts_microjoules": {"gpu": {"decode": 1_000, "idle": idle}},
        "in_flight_microjoules": {"gpu": {"prefill": 0, "decode": in_flight}},
    }


REFRESHES = [Refresh(0.1 * number, START_MICROJOULES + 12_345 * number**2) for number in range(10)]


def test_books_that_follow_the_board_keep_the_law() -> None:
    looks = [
        look(number, 12_345 * number**2, idle=12_345 * number**2 - 1_000 - 10 + 4, in_flight=10, ahead=4)
        for number in range(3, 9)
    ]
    assert law(looks, REFRESHES) == {"looks": 6, "that_do_not_add_up": 0, "unseen_by_the_second_reader": 0}


def test_what_does_not_add_up_and_what_the_board_never_showed_are_found() -> None:
    looks = [look(number, 12_345 * number**2, idle=12_345 * number**2 - 1_000) for number in range(3, 9)]
    looks[2] = look(5, 12_345 * 25, idle=12_345 * 25)
    looks[4] = look(7, 1, idle=-999)
    assert law(looks, REFRESHES) == {"looks": 6, "that_do_not_add_up": 1, "unseen_by_the_second_reader": 1}


def test_joules_between_two_times_are_those_between_refreshes() -> None:
    class Unread(Board):
        def __init__(self) -> None:
            """There is no board to open."""

    log = BoardLog(Unread())
    log.refreshes = REFRESHES
    log.instants = [(0.0, 100.0), (1.0, 300.0)]
    joules, seconds = log.joules_between(0.25, 0.55)
    assert joules == pytest.approx(12_345 * (25 - 4) / 1e6)
    assert seconds == pytest.approx(0.3)
    assert log.instant_mean_watts(0.0, 1.0) == pytest.approx(200.0)
