"""Lengths are predicted from those that have ended, and from nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import lengths
from scheduler.lengths import Lengths


def taught(times: int, output_tokens: int, tenant: str = "t", into: Lengths | None = None) -> Lengths:
    known = Lengths() if into is None else into
    for _ in range(times):
        known.ended("m", tenant, 3000, 1000, output_tokens)
    return known


def test_a_prompt_is_four_bytes_a_token_until_an_engine_has_counted_one() -> None:
    assert Lengths().prompt_tokens("m", 4000) == 1000
    assert taught(50, 10).prompt_tokens("m", 3000) == pytest.approx(1000, rel=0.05)


def test_an_empty_prompt_is_a_token() -> None:
    assert Lengths().prompt_tokens("m", 0) == 1


def test_short_prompts_in_long_templates_say_little_of_long_prompts() -> None:
    known = Lengths()
    for _ in range(300):
        known.ended("m", "t", 4000, 1000, None)
        known.ended("m", "t", 2, 40, None)
        known.ended("m", "t", 2, 40, None)
    assert known.prompt_tokens("m", 4000) == pytest.approx(1000, rel=0.05)


def test_models_are_learned_apart() -> None:
    known = taught(50, 10)
    assert known.prompt_tokens("other", 4000) == 1000
    assert known.output_tokens("other", "t", None) == Lengths().output_tokens("other", "t", None)


def test_the_answers_mean_is_learned() -> None:
    assert taught(300, 40).output_tokens("m", "t", None) == pytest.approx(40, rel=0.1)


def test_the_callers_bound_is_kept() -> None:
    assert taught(100, 40).output_tokens("m", "t", 7) == 7
    assert Lengths().output_tokens("m", "t", 7) == 7


@pytest.mark.parametrize("bound", [0, -1, -(2**62), -(10**400)])
def test_a_bound_below_zero_is_no_negative_work(bound: int) -> None:
    assert Lengths().output_tokens("m", "t", bound) == 0


def test_a_tenant_with_its_own_habits_gets_its_own_mean() -> None:
    known = taught(100, 400, "long", taught(100, 20, "short"))
    assert known.output_tokens("m", "short", None) < 40
    assert known.output_tokens("m", "long", None) > 300


def test_a_tenant_nobody_knows_gets_the_mean_of_all() -> None:
    known = taught(300, 40)
    assert known.output_tokens("m", "new", None) == pytest.approx(40, rel=0.1)


def test_one_answer_says_little_of_a_tenant() -> None:
    known = taught(1, 4000, "new", taught(300, 40))
    assert known.output_tokens("m", "new", None) < 1000


def test_a_habit_that_changes_is_followed() -> None:
    assert taught(600, 400, "t", taught(10_000, 40)).output_tokens("m", "t", None) > 350


def test_tenants_not_heard_of_for_longest_are_forgotten() -> None:
    known = Lengths()
    taught(50, 5, "regular", known)
    for number in range(lengths._MOST_TENANTS + 10):
        taught(1, 400, f"t{number}", known)
        if number % 1000 == 0:
            taught(1, 5, "regular", known)
    assert len(known._by_tenant) == lengths._MOST_TENANTS
    assert known.output_tokens("m", "regular", None) < 40
    assert ("m", "t1") not in known._by_tenant


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**9),
            st.none() | st.integers(-5, 10**9),
            st.none() | st.integers(-5, 10**9),
        ),
        max_size=30,
    ),
    st.integers(0, 10**7),
)
def test_whatever_has_ended_predictions_stay_possible(
    ended: list[tuple[int, int | None, int | None]], prompt_bytes: int
) -> None:
    known = Lengths()
    for ended_bytes, prompt_tokens, output_tokens in ended:
        known.ended("m", "t", ended_bytes, prompt_tokens, output_tokens)
    # No tokenizer makes more than a few tokens of a byte.
    assert 1 <= known.prompt_tokens("m", prompt_bytes) <= max(1, 4 * prompt_bytes)
    told = [tokens for *_, tokens in ended if tokens is not None and tokens >= 0]
    assert 0 <= known.output_tokens("m", "t", None) <= max([211, *told])


def test_none_and_nonsense_teach_nothing() -> None:
    known = Lengths()
    known.ended("m", "t", 3000, None, None)
    known.ended("m", "t", 0, 1000, -1)
    known.ended("m", "t", 3000, 0, -1)
    known.ended("m", "t", 3000, 10**9, 10**9)
    known.ended("m", "t", 3000, 10**400, 10**400)
    assert known.prompt_tokens("m", 4000) == 1000
    assert known.output_tokens("m", "t", None) == Lengths().output_tokens("m", "t", None)
