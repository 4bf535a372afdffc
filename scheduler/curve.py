"""A quantity that does not fall as the batch grows, learned online: step seconds, or watts, against batch size."""

from collections.abc import Callable
from math import exp, isfinite, log, log2
from typing import Final

_KNOTS: Final = tuple(1 << power for power in range(11))
# How far an observation reaches: half as far with each doubling of the batch, and never quite nowhere, so that a knot
# nobody has seen follows the others' scale while it keeps the prior's shape.
_REACH: Final = 0.5
_LEAST_REACH: Final = 0.02
_PRIOR_EVIDENCE: Final = 0.01
# An average over about so many observations: at one a second, what the engine did in the last half minute counts.
_MOST_EVIDENCE: Final = 30.0
# A single observation moves the curve fourfold at most: one absurd reading must not undo a thousand good ones.
_MOST_LOG_RATIO: Final = log(4.0)


class MonotoneCurve:
    """Positive values at batches of 1, 2, 4, … 1024; in between and beyond straight lines.

    Each knot's logarithm is a kernel-weighted running mean of the observations (Nadaraya-Watson, with bounded
    evidence, so that the past is forgotten). The knots are then made non-decreasing by pooling adjacent violators,
    which is the least-squares monotone fit (Barlow et al., Statistical Inference under Order Restrictions, 1972).
    """

    __slots__ = ("_evidence", "_logs", "_values")

    def __init__(self, prior: Callable[[float], float]) -> None:
        self._logs = [log(prior(batch)) for batch in _KNOTS]
        self._evidence = [_PRIOR_EVIDENCE] * len(_KNOTS)
        self._values = [prior(batch) for batch in _KNOTS]

    def at(self, batch: float) -> float:
        """The value at a batch; below 1 it is that at 1."""
        values = self._values
        if batch <= 1:
            return values[0]
        index = min(int(batch).bit_length() - 1, len(_KNOTS) - 2)
        low, left = _KNOTS[index], values[index]
        return left + (values[index + 1] - left) * (batch - low) / low

    def observe(self, batch: float, value: float, weight: float = 1.0) -> None:
        """Learn that it was `value` at `batch`. What is not a positive, finite number teaches nothing."""
        if not (isfinite(batch) and isfinite(value) and batch > 0 and value > 0 and weight > 0):
            return
        residual = log(value) - log(self.at(batch))
        residual = max(-_MOST_LOG_RATIO, min(_MOST_LOG_RATIO, residual))
        place = log2(max(1.0, batch))
        for knot in range(len(_KNOTS)):
            reach = weight * max(_LEAST_REACH, _REACH ** abs(place - knot))
            evidence = min(_MOST_EVIDENCE, self._evidence[knot] + reach)
            self._evidence[knot] = evidence
            self._logs[knot] += min(1.0, reach / evidence) * residual
        self._values = _non_decreasing([exp(one) for one in self._logs], self._evidence)

    def largest_batch(self, bound: float, limit: int) -> int:
        """The largest batch up to `limit` at which the value stays within `bound`; 0 where 1 is too many."""
        if self._values[0] > bound:
            return 0
        least, most = 1, limit
        while least < most:
            middle = (least + most + 1) // 2
            if self.at(middle) <= bound:
                least = middle
            else:
                most = middle - 1
        return max(1, least)


def _non_decreasing(values: list[float], weights: list[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values`."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, mass, count = blocks.pop()
            together = mass + block[1]
            block = ((mean * mass + block[0] * block[1]) / together, together, count + block[2])
        blocks.append(block)
    return [value for value, _, count in blocks for _ in range(count)]
