"""Finding the step of a first token again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.history import StepHistory, wrapped

STEP_SECONDS = st.floats(0.002, 0.5)


def history(*elapsed_seconds: float) -> StepHistory:
    rows = StepHistory(columns=2)
    for index, elapsed in enumerate(elapsed_seconds):
        rows.append(elapsed, (index * 10, index))
    return rows


def test_an_empty_history_has_no_step() -> None:
    assert history().last_index == -1
    assert history().index_before_last(1.0) == -1
    assert history().row(-1) == [0, 0]


def test_a_row_keeps_its_values() -> None:
    rows = StepHistory(columns=3)
    rows.append(0.1, (1, 2, 3))
    rows.append(0.1, (4, 5, 6))
    assert (rows.row(0), rows.row(1)) == ([1, 2, 3], [4, 5, 6])


@given(st.integers(-(2**80), 2**80), st.integers(-(2**62), 2**62))
def test_small_differences_of_huge_sums_are_exact(start: int, rise: int) -> None:
    rows = StepHistory(columns=1)
    rows.append(0.1, (start,))
    rows.append(0.1, (start + rise,))
    assert wrapped(rows.row(1)[0] - rows.row(0)[0]) == rise


@pytest.mark.parametrize(
    ("seconds", "index"), [(0.0, 3), (0.09, 3), (0.11, 2), (0.2, 2), (0.4, 1), (0.45, 1), (0.9, 0), (99.0, 0), (-1, 3)]
)
def test_the_nearest_step_is_found(seconds: float, index: int) -> None:
    assert history(0.5, 0.3, 0.2, 0.2).index_before_last(seconds) == index


@given(st.lists(STEP_SECONDS, min_size=1, max_size=80), st.data())
def test_jitter_of_less_than_half_a_step_does_no_harm(steps: list[float], data: st.DataObject) -> None:
    rows = history(*steps)
    index = data.draw(st.integers(0, len(steps) - 1))
    jitter = data.draw(st.floats(-0.45, 0.45)) * min(steps)
    assert rows.index_before_last(sum(steps[index + 1 :]) + jitter) == index


def test_what_is_still_needed_is_kept_and_the_rest_forgotten() -> None:
    rows = history(*[0.01] * 20_000)
    rows.forget_before(9_000)
    assert len(rows._at) == 11_000
    assert rows.last_index == 19_999
    assert rows.row(9_000) == [90_000, 9_000]
    assert rows.index_before_last(10.0) == 18_999
    assert rows.row(5) == rows.row(9_000)  # the oldest kept stands for those that are gone


def test_a_few_thousand_steps_are_always_kept() -> None:
    rows = history(*[0.01] * 10_000)
    rows.forget_before(rows.last_index)
    assert 4096 <= len(rows._at) < 10_000


def test_growth_is_bounded_even_when_nothing_may_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.history._MAX_ROWS", 20_000)
    rows = history()
    for index in range(100_000):
        rows.append(0.01, (index, 0))
        rows.forget_before(0)
    assert len(rows._at) <= 20_001
    assert rows.row(rows.last_index) == [99_999, 0]
