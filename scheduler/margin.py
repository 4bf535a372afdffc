"""How far predictions of latency may go, learned from whether the targets were met."""

from typing import Final

# One request in 200 may miss while the margin stands still: half of what the 99th percentile allows.
_GROWTH: Final = 0.0005
_SHRINKAGE: Final = 0.9
_LEAST_RATIO: Final = 0.05


class Margin:
    """A ratio of at most 1 on what predictions may use up of the targets.

    It shrinks by a tenth when a request misses and grows a little with each that does not (additive increase and
    multiplicative decrease of its logarithm). A miss counts only if the request was placed under the present ratio:
    those that were on their way already say nothing of it.
    """

    __slots__ = ("_shrunk_at_seconds", "ratio")

    def __init__(self) -> None:
        self.ratio = 1.0
        self._shrunk_at_seconds = 0.0

    def observe(self, placed_at_seconds: float, now_seconds: float, *, is_met: bool) -> None:
        """Learn from a request that has ended."""
        if is_met:
            self.ratio = min(1.0, self.ratio * (1 + _GROWTH))
        elif placed_at_seconds >= self._shrunk_at_seconds:
            self.ratio = max(_LEAST_RATIO, self.ratio * _SHRINKAGE)
            self._shrunk_at_seconds = now_seconds
