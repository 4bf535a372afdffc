"""Direct against through the front end: alternating rounds, medians, their ratio."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured rate, and how many requests failed meanwhile."""

    rate: float
    errors: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rates of every round, in the order they were measured."""

    name: str
    direct: tuple[float, ...]
    through: tuple[float, ...]
    errors: int

    @property
    def direct_median(self) -> float:
        return statistics.median(self.direct)

    @property
    def through_median(self) -> float:
        return statistics.median(self.through)

    @property
    def ratio(self) -> float | None:
        """Through over direct; None where nothing came directly."""
        return self.through_median / self.direct_median if self.direct_median else None

    def as_json(self) -> dict[str, Any]:
        """The rounds and what follows from them, for programs."""
        return {
            "name": self.name,
            "direct": list(self.direct),
            "through": list(self.through),
            "direct_median": self.direct_median,
            "through_median": self.through_median,
            "ratio": self.ratio,
            "errors": self.errors,
        }


def compare(name: str, direct: Callable[[], Sample], through: Callable[[], Sample], rounds: int) -> Comparison:
    """Measures both in turn; every other round starts with the other one, so that drift favours neither."""
    direct_samples: list[Sample] = []
    through_samples: list[Sample] = []
    for index in range(rounds):
        turns = [(direct, direct_samples), (through, through_samples)]
        for measure, samples in reversed(turns) if index % 2 else turns:
            samples.append(measure())
    return Comparison(
        name,
        tuple(sample.rate for sample in direct_samples),
        tuple(sample.rate for sample in through_samples),
        sum(sample.errors for sample in direct_samples + through_samples),
    )


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """The medians as a table for people."""
    width = max(len(comparison.name) for comparison in comparisons)
    lines = [f"{'':{width}} {'direct':>12} {'through':>12} {'ratio':>7} {'errors':>7}"]
    for comparison in comparisons:
        ratio = "-" if comparison.ratio is None else f"{comparison.ratio:.3f}"
        lines.append(
            f"{comparison.name:{width}} {comparison.direct_median:12,.1f} {comparison.through_median:12,.1f} "
            f"{ratio:>7} {comparison.errors:>7}"
        )
    return "\n".join(lines)
