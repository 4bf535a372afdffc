"""The stand-in's power curves once more, in exact fractions, for tests to hold the C library against.

Independent of it on purpose: every straight piece is integrated by its midpoint, and the golden ratio is no integer.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import floor

GOLDEN_RATIO = (1 + 5**0.5) / 2


@dataclass(frozen=True, slots=True)
class Watts:
    """A repeating curve of (seconds, watts), as the script's `power_watts` and `wobble_...` keys describe it."""

    points: tuple[tuple[str, str], ...]
    start: str = "0"
    repeats: bool = True
    wobble_ratio: float = 0.0
    wobble_seconds: str = "0.1"

    @property
    def line(self) -> str:
        """The curve as keys for a line of the script."""
        points = ",".join(f"{seconds}:{watts}" for seconds, watts in self.points)
        return (
            f"power_watts={points} power_start_seconds={self.start} power_repeats={int(self.repeats)} "
            f"wobble_ratio={self.wobble_ratio} wobble_seconds={self.wobble_seconds}"
        )

    def at(self, seconds: Fraction) -> Fraction:
        """Watts without the wobble; at a step, those after it."""
        corners = [(Fraction(at), Fraction(watts)) for at, watts in self.points]
        elapsed, period = seconds - Fraction(self.start), corners[-1][0]
        if elapsed < 0:
            return corners[0][1]
        if elapsed >= period and not self.repeats:
            return corners[-1][1]
        elapsed %= period
        for (left, before), (right, after) in pairwise(corners):
            if left <= elapsed < right:
                return before + (after - before) * (elapsed - left) / (right - left)
        raise AssertionError(elapsed)

    def factor(self, seconds: Fraction) -> Fraction:
        """What the wobble multiplies them by, to about a millionth."""
        slot = floor(seconds / Fraction(self.wobble_seconds))
        return Fraction(1 - self.wobble_ratio + 2 * self.wobble_ratio * (slot / GOLDEN_RATIO % 1))

    def joules(self, from_seconds: float | str, to_seconds: float | str) -> Fraction:
        """Exact but for the wobble. Floats mean the decimals they are written as."""
        begin, end = Fraction(str(from_seconds)), Fraction(str(to_seconds))
        cuts = sorted({begin, end, *(cut for cut in self._cuts(begin, end) if begin < cut < end)})
        pieces = [(left, right, (left + right) / 2) for left, right in pairwise(cuts)]
        return sum(((right - left) * self.at(mid) * self.factor(mid) for left, right, mid in pieces), Fraction(0))

    def _cuts(self, begin: Fraction, end: Fraction) -> set[Fraction]:
        start, period, slot = Fraction(self.start), Fraction(self.points[-1][0]), Fraction(self.wobble_seconds)
        rounds = range(floor((begin - start) / period) - 1, floor((end - start) / period) + 2)
        corners = {start + turn * period + Fraction(at) for turn in rounds for at, _ in self.points}
        slots = range(floor(begin / slot), floor(end / slot) + 2) if self.wobble_ratio else range(0)
        return corners | {slot * number for number in slots}
