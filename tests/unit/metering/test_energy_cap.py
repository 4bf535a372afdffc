"""A request's energy cap: what callers may write, and how near below it a request ends."""

import json
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.energy_cap import EnergyCap, EnergyCapError, cap_fields, parse_energy_cap

Headers = list[tuple[bytes, bytes]]


def header(*values: bytes) -> Headers:
    return [(b"content-type", b"application/json"), *((b"x-max-energy-joules", value) for value in values)]


# -- what callers write --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "fields", "joules"),
    [
        ([], None, None),
        ([], {}, None),
        ([], {"max_energy_joules": None}, None),
        ([], {"max_energy_joules": 5}, 5.0),
        ([], {"max_energy_joules": 0.25}, 0.25),
        (header(b"5"), None, 5.0),
        (header(b" 1.5e1 "), {}, 15.0),
        (header(b".5"), {"max_energy_joules": None}, 0.5),
        (header(b"5"), {"max_energy_joules": 3}, 3.0),
        (header(b"2"), {"max_energy_joules": 3}, 2.0),
        (header(b"4", b"2"), {"max_energy_joules": 3}, 2.0),
    ],
)
def test_the_smallest_cap_counts(headers: Headers, fields: dict[str, Any] | None, joules: float | None) -> None:
    assert parse_energy_cap(headers, fields) == joules


@pytest.mark.parametrize("text", ["0", "-1", "true", '"5"', "[5]", "{}", "NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_a_field_that_is_no_cap_is_refused_by_name(text: str) -> None:
    with pytest.raises(EnergyCapError, match="max_energy_joules must be a finite number of joules above 0"):
        parse_energy_cap([], json.loads(f'{{"max_energy_joules": {text}}}'))


@pytest.mark.parametrize(
    "value", [b"", b"0", b"-0.0", b"nan", b"inf", b"1_0", b"five", b"5 J", b"0x5", b"\xff", b"1e400"]
)
def test_a_header_that_is_no_cap_is_refused(value: bytes) -> None:
    with pytest.raises(EnergyCapError, match="max_energy_joules"):
        parse_energy_cap(header(value), {"max_energy_joules": 5})


@given(st.binary(max_size=300))
def test_any_header_is_a_cap_or_refused_in_few_words(value: bytes) -> None:
    try:
        joules = parse_energy_cap(header(value), None)
    except EnergyCapError as error:
        words = str(error)
    else:
        assert joules is not None
        assert joules > 0
        words = ""
    assert len(words) < 120


def test_the_block_says_whether_the_cap_was_reached_or_why_nobody_can_say() -> None:
    assert cap_fields(5, reached=True) == {"max_energy_joules": 5, "max_energy_reached": True}
    not_kept = cap_fields(5, reached=False, not_kept_reason="no counter")
    assert not_kept == {"max_energy_joules": 5, "max_energy_reached": None, "max_energy_reason": "no counter"}


# -- when to end ---------------------------------------------------------------------------------------------------


def spent_at_the_end(cap_joules: float, prefill: int, costs: Callable[[int], int], under_way: int) -> int:
    """What a request ends at that pays `costs(step)` for each step, those under way when it is stopped included."""
    cap = EnergyCap(cap_joules)
    decode = step = 0
    while not cap.must_end(prefill, decode, under_way):
        decode += costs(step)
        step += 1
    return prefill + decode + sum(costs(step + late) for late in range(under_way))


@given(
    cost=st.integers(1_000, 5_000_000),
    prefill=st.integers(1, 2_000_000),
    steps=st.floats(4, 500),
    under_way=st.integers(1, 2),
)
def test_where_steps_cost_the_same_it_ends_less_than_a_step_below(
    cost: int, prefill: int, steps: float, under_way: int
) -> None:
    cap = prefill + round(steps * cost)
    spent = spent_at_the_end(cap / 1e6, prefill, lambda _: cost, under_way)
    assert cap - cost - 1 <= spent <= cap + 1


@given(
    noise=st.lists(st.floats(0.7, 1.3), min_size=5, max_size=60),
    steps=st.integers(20, 300),
    under_way=st.integers(1, 2),
)
def test_where_they_do_not_it_is_off_by_what_those_to_come_differ_from_the_latest(
    noise: list[float], steps: int, under_way: int
) -> None:
    costs = list(islice(cycle(round(1e6 * one) for one in noise), 10 * steps))
    spent = spent_at_the_end(steps, 500_000, costs.__getitem__, under_way)
    dearest, cheapest = max(costs), min(costs)
    assert spent <= steps * 1e6 + (under_way + 1) * (dearest - cheapest)
    assert spent >= steps * 1e6 - (under_way + 1) * dearest + under_way * cheapest


@given(noise=st.lists(st.floats(0.9, 1.1), min_size=5, max_size=60), steps=st.integers(30, 300))
def test_a_cap_worth_thirty_steps_is_kept_within_five_per_cent(noise: list[float], steps: int) -> None:
    costs = list(islice(cycle(round(1e6 * one) for one in noise), 10 * steps))
    spent = spent_at_the_end(steps, 500_000, costs.__getitem__, under_way=1)
    assert abs(spent - steps * 1e6) <= 0.05 * steps * 1e6


@given(change_at=st.integers(0, 45), factor=st.sampled_from([0.2, 0.5, 2.0, 4.0]))
def test_a_batch_that_changes_costs_no_more_than_the_steps_that_show_it(change_at: int, factor: float) -> None:
    def costs(step: int) -> int:
        return round(1e6 * (factor if step >= change_at else 1))

    spent = spent_at_the_end(40, 1, costs, under_way=1)
    assert spent <= 40e6 + 2 * max(0.0, factor - 1) * 1e6
    assert spent >= 40e6 - 2 * max(factor, 1) * 1e6


@pytest.mark.parametrize("every", [5, 6, 9])
def test_a_correction_of_the_books_is_not_taken_for_the_cost_of_a_step(every: int) -> None:
    def costs(step: int) -> int:
        return 2_500_000 if step % every == 0 else 800_000

    mean = sum(costs(step) for step in range(every)) / every
    for cap in range(40, 80):
        spent = spent_at_the_end(cap, 1, costs, under_way=1)
        assert cap * 1e6 - 2 * mean - 2_500_000 < spent < cap * 1e6 + 2_500_000


def test_a_prompt_that_costs_more_than_the_cap_ends_after_its_first_token() -> None:
    cap = EnergyCap(5)
    assert not cap.must_end(0, 0, 1)
    assert cap.must_end(5_000_001, 0, 1)


def test_a_second_sequences_prompt_is_not_taken_for_the_cost_of_a_step() -> None:
    cap = EnergyCap(10)
    assert not cap.must_end(1_000_000, 0, 1)
    assert not cap.must_end(1_000_000, 100_000, 1)
    assert not cap.must_end(8_000_000, 200_000, 1)
    assert cap.must_end(8_000_000, 1_900_000, 1)
