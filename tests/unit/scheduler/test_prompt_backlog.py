"""What a worker is believed to owe in prompts, through the core: no more than those that are still there."""

import pytest

from scheduler.commands import Dispatch
from scheduler.events import DispatchFailed, RequestArrived, RequestCancelled, RequestFinished
from tests.unit.scheduler.fleet_in_time import FleetInTime

PROMPT_TOKENS = 100_000


def backlog_seconds(fleet: FleetInTime, worker_id: str = "w0") -> float:
    worker = fleet.core._fleet.worker(worker_id)
    assert worker is not None
    return worker.backlog_seconds(fleet.now_seconds)


def arrive(fleet: FleetInTime, request_id: str, prompt_tokens: int = PROMPT_TOKENS) -> None:
    [command] = fleet.handle(RequestArrived(request_id, "m", prompt_tokens=prompt_tokens))
    assert isinstance(command, Dispatch)


@pytest.mark.parametrize("gone", [RequestCancelled("r1"), RequestFinished("r1"), DispatchFailed("r1", "w0")])
def test_a_worker_with_nothing_left_to_do_owes_no_prompts(
    gone: RequestCancelled | RequestFinished | DispatchFailed,
) -> None:
    fleet = FleetInTime(workers=1)
    arrive(fleet, "r1")
    assert backlog_seconds(fleet) > 1.0
    fleet.handle(gone)
    assert backlog_seconds(fleet) == 0


def test_prompts_that_were_given_up_hold_up_none_that_come_after() -> None:
    fleet = FleetInTime(workers=1)
    arrive(fleet, "stays", 1000)
    alone_seconds = backlog_seconds(fleet)
    for number in range(50):
        arrive(fleet, f"r{number}")
        fleet.handle(RequestCancelled(f"r{number}"))
    assert backlog_seconds(fleet) == pytest.approx(alone_seconds)


def test_of_a_prompt_given_up_half_way_only_the_rest_is_saved() -> None:
    fleet = FleetInTime(workers=1)
    arrive(fleet, "r1")
    first_seconds = backlog_seconds(fleet)
    arrive(fleet, "r2", 1000)
    later_seconds = backlog_seconds(fleet) - first_seconds
    fleet.until(first_seconds / 2)
    fleet.handle(RequestCancelled("r1"))
    assert backlog_seconds(fleet) == pytest.approx(later_seconds)


def test_an_answer_that_ends_when_its_prompt_has_long_been_computed_saves_nothing() -> None:
    fleet = FleetInTime(workers=1)
    arrive(fleet, "r1", 1000)
    fleet.until(5.0)
    arrive(fleet, "r2")
    owed_seconds = backlog_seconds(fleet)
    fleet.handle(RequestFinished("r1"))
    assert backlog_seconds(fleet) == owed_seconds
