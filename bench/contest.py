"""Several contenders under one load: rounds that visit all of them in turn, medians, their ratios."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.comparison import Sample


@dataclass(frozen=True, slots=True)
class Contest:
    """What every contender did in every round, by the contenders' names and in the order measured."""

    name: str
    samples: Mapping[str, tuple[Sample, ...]]

    def median(self, who: str) -> float:
        return statistics.median(sample.rate for sample in self.samples[who])

    def ratio(self, who: str, over: str) -> float | None:
        """The median of one over that of another; None where one of them did not take part or did nothing."""
        if who not in self.samples or over not in self.samples or not self.median(over):
            return None
        return self.median(who) / self.median(over)

    def errors(self, who: str) -> int:
        return sum(sample.errors for sample in self.samples[who])

    def as_json(self) -> dict[str, Any]:
        """The rounds and what follows from them, for programs."""
        return {
            who: {
                "rates": [sample.rate for sample in samples],
                "median": self.median(who),
                "errors": self.errors(who),
            }
            for who, samples in self.samples.items()
        }


def hold_contest(name: str, contenders: Mapping[str, Callable[[], Sample]], rounds: int) -> Contest:
    """Measures all of them in every round; each round begins with another one, so that drift favours nobody."""
    samples: dict[str, list[Sample]] = {who: [] for who in contenders}
    order = list(contenders)
    for index in range(rounds):
        first = index % len(order)
        for who in order[first:] + order[:first]:
            samples[who].append(contenders[who]())
    return Contest(name, {who: tuple(taken) for who, taken in samples.items()})
