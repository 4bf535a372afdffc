from functools import partial

from bench.comparison import Sample
from bench.contest import hold_contest


def test_every_round_visits_all_and_begins_with_another() -> None:
    visited: list[str] = []
    rates = iter(range(100))

    def measure(who: str) -> Sample:
        visited.append(who)
        return Sample(float(next(rates)), errors=1)

    contest = hold_contest("x", {who: partial(measure, who) for who in ("a", "b", "c")}, rounds=4)
    assert visited == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]
    assert [sample.rate for sample in contest.samples["b"]] == [1, 3, 8, 10]
    assert contest.errors("b") == 4


def test_ratios_are_of_medians_and_none_without_a_rival() -> None:
    contest = hold_contest("x", {"a": lambda: Sample(6, 0), "b": lambda: Sample(3, 0), "c": lambda: Sample(0, 0)}, 2)
    assert contest.ratio("a", "b") == 2
    assert contest.ratio("a", "c") is None
    assert contest.ratio("a", "absent") is None
