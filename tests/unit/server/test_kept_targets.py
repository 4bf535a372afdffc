from typing import Any

import pytest

from scheduler.targets import LatencyTargets
from server.cost import Cost
from server.exchange_record import ExchangeRecord
from server.kept_targets import kept_targets

TARGETS = LatencyTargets(ttft_seconds=1.0, tpot_seconds=0.1)


def judged(**fields: Any) -> dict[str, bool]:
    """A stream of eleven tokens whose first came after half a second and whose last one second later."""
    usual = {"outcome": "completed", "is_stream": True, "first_byte_seconds": 0.5, "total_seconds": 1.5}
    record = ExchangeRecord("r", "/v1/completions", "acme", "m", "default", cost=Cost(output_tokens=11))
    for name, value in (usual | fields).items():
        setattr(record, name, value)
    return dict(kept_targets(record, TARGETS))


def test_a_stream_in_time_keeps_to_both() -> None:
    assert judged() == {"ttft": True, "tpot": True}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"first_byte_seconds": 1.01, "total_seconds": 1.9}, {"ttft": False, "tpot": True}),
        ({"total_seconds": 1.6}, {"ttft": True, "tpot": False}),
        ({"cost": Cost(output_tokens=1)}, {"ttft": True}),
        ({"cost": Cost()}, {"ttft": True}),
        ({"outcome": "failed"}, {"ttft": True}),
    ],
)
def test_each_target_is_judged_as_far_as_it_can_be(fields: dict[str, Any], expected: dict[str, bool]) -> None:
    assert judged(**fields) == expected


def test_what_was_promised_nothing_or_shows_no_first_token_is_not_judged() -> None:
    assert judged(tier="flex") == {}
    assert judged(is_stream=False, first_byte_seconds=None, total_seconds=60.0) == {}


def test_a_stream_that_ended_before_its_first_byte_missed_its_target_if_it_waited_longer() -> None:
    assert judged(first_byte_seconds=None, total_seconds=1.1, outcome="aborted") == {"ttft": False}
    assert judged(first_byte_seconds=None, total_seconds=0.9, outcome="aborted") == {}


def test_a_caller_that_took_its_time_says_nothing_of_the_engine() -> None:
    assert judged(total_seconds=9.0, held_up_seconds=1.0) == {"ttft": True}
    assert judged(total_seconds=9.0, held_up_seconds=0.1) == {"ttft": True, "tpot": False}
