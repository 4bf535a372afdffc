"""Prices of past steps, found again by the engine's own clock.

A sequence that ends says how long ago its first token was. The engine's clock is rebuilt from inter-token times, so
that the step of the first token is found exactly, whatever delay there was between engine and meter.
"""

from array import array
from bisect import bisect_left
from typing import Final

from metering.ledger import StepPrice

# Steps kept when nothing says that they may be forgotten; one row is 24 bytes for a single component.
_KEPT_ROWS: Final = 4096
# A request that outlasts this many steps (an hour at 100 a second is 360,000) is priced from the oldest row kept.
_MAX_ROWS: Final = 1_000_000


class StepHistory:
    """A table of (engine clock, price per component) with one row a step, pruned from the front."""

    def __init__(self, components: int) -> None:
        self._at = array("d")
        self._integrals = [array("q") for _ in range(components)]
        self._prices = [array("q") for _ in range(components)]
        self._dropped = 0
        self._clock_seconds = 0.0

    def append(self, elapsed_seconds: float, prices: list[StepPrice]) -> int:
        """Add a step that ended `elapsed_seconds` after the one before; returns its index, never reused."""
        self._clock_seconds += elapsed_seconds
        self._at.append(self._clock_seconds)
        for column, price in enumerate(prices):
            self._integrals[column].append(price.decode_integral)
            self._prices[column].append(price.prefill_per_token)
        return self.last_index

    @property
    def last_index(self) -> int:
        """Index of the latest step, -1 before the first."""
        return self._dropped + len(self._at) - 1

    def index_before_last(self, seconds: float) -> int:
        """Index of the step nearest to `seconds` before the latest one."""
        if not self._at:
            return -1
        at = self._at[-1] - seconds
        position = bisect_left(self._at, at)
        if position == len(self._at) or (position and at - self._at[position - 1] < self._at[position] - at):
            position -= 1
        return self._dropped + position

    def prices(self, index: int) -> list[StepPrice]:
        """Prices of a step per component; of the oldest step kept when that one is gone."""
        row = max(0, index - self._dropped)
        return [StepPrice(i[row], p[row]) for i, p in zip(self._integrals, self._prices, strict=True)]

    def forget_before(self, index: int) -> None:
        """Drop rows older than `index` once enough of them have gathered to be worth the move."""
        surplus = min(index - self._dropped, len(self._at) - _KEPT_ROWS)
        if len(self._at) > _MAX_ROWS:
            surplus = len(self._at) - _MAX_ROWS // 2
        if surplus < _KEPT_ROWS:
            return
        del self._at[:surplus]
        for column in (*self._integrals, *self._prices):
            del column[:surplus]
        self._dropped += surplus
