"""Every run of the benchmark gets the same requests, and they are spread as independent users would send them."""

import itertools

import pytest

from bench.energy.arrivals import plan


def test_the_same_seed_gives_the_same_requests() -> None:
    assert plan(50, 2.0, 64, seed=7) == plan(50, 2.0, 64, seed=7)


def test_another_seed_gives_others() -> None:
    assert plan(50, 2.0, 64, seed=7) != plan(50, 2.0, 64, seed=8)


def test_another_rate_only_draws_the_arrivals_together() -> None:
    slow, fast = plan(50, 1.0, 64, seed=7), plan(50, 2.0, 64, seed=7)
    assert [(one.prompt, one.output_tokens) for one in slow] == [(one.prompt, one.output_tokens) for one in fast]
    assert [one.at_seconds for one in slow] == pytest.approx([2 * one.at_seconds for one in fast])


def test_arrivals_begin_at_zero_and_are_as_irregular_as_a_poisson_process() -> None:
    instants = [one.at_seconds for one in plan(4000, 4.0, 64, seed=1)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(instants)]
    assert instants[0] == 0
    assert sum(gaps) / len(gaps) == pytest.approx(1 / 4.0, rel=0.05)
    # Of an exponential distribution the mean's own share lies below it: 1 - 1/e.
    assert sum(gap < 1 / 4.0 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def test_answers_are_from_half_of_the_longest_to_the_longest() -> None:
    assert {one.output_tokens for one in plan(2000, 1.0, 10, seed=1)} == {5, 6, 7, 8, 9, 10}
    assert {one.output_tokens for one in plan(20, 1.0, 1, seed=1)} == {1}


def test_prompts_have_mixed_lengths_and_share_no_beginning() -> None:
    prompts = [one.prompt.split() for one in plan(500, 1.0, 64, seed=1)]
    lengths = [len(words) for words in prompts]
    assert min(lengths) < 15
    assert max(lengths) > 80
    assert len({tuple(words[:10]) for words in prompts}) == len(prompts)
