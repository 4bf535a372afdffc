"""What past steps cost, found again by the engine's own clock.

A sequence that ends says how long ago its first token was. The engine's clock is rebuilt from inter-token times, so
that the step of the first token is found exactly, whatever delay there was between engine and meter.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

# Steps kept when nothing says that they may be forgotten; a row is 8 bytes and 8 more for each column.
_KEPT_ROWS: Final = 4096
# A request that outlasts this many steps (an hour at 100 a second is 360,000) is priced from the oldest row kept.
_MAX_ROWS: Final = 1_000_000
# Of the engine's clock as it is rebuilt here, against what an engine says of a sequence.
_TOLERANCE_SECONDS: Final = 1.0
_WORD: Final = 1 << 64
_SIGN: Final = 1 << 63


def wrapped(value: int) -> int:
    """The integer that is equal to `value` modulo 2**64 and fits in 64 signed bits.

    Sums and products of rows are right modulo 2**64 however large the columns have grown, and so are exact whenever the
    true result is small, as what one request owes always is.
    """
    return (value + _SIGN) % _WORD - _SIGN


class StepHistory:
    """A table of the engine's clock and `columns` whole numbers with one row a step, pruned from the front."""

    def __init__(self, columns: int) -> None:
        self._at = array("d")
        self._columns = [array("q") for _ in range(columns)]
        self._dropped = 0
        self._clock_seconds = 0.0

    def append(self, elapsed_seconds: float, row: Sequence[int]) -> None:
        """Add a step that ended `elapsed_seconds` after the one before; its values are kept modulo 2**64."""
        self._clock_seconds += elapsed_seconds
        self._at.append(self._clock_seconds)
        for column, value in zip(self._columns, row, strict=True):
            column.append(value if -_SIGN <= value < _SIGN else wrapped(value))

    @property
    def last_index(self) -> int:
        """Index of the latest step, never reused; -1 before the first."""
        return self._dropped + len(self._at) - 1

    def index_before_last(self, seconds: float) -> int:
        """Index of the step nearest to `seconds` before the latest one, or of one that is no longer kept."""
        if not self._at:
            return -1
        at = self._at[-1] - seconds
        if self._dropped and at < self._at[0] - _TOLERANCE_SECONDS:
            return self._dropped - 1
        position = bisect_left(self._at, at)
        if position == len(self._at) or (position and at - self._at[position - 1] < self._at[position] - at):
            position -= 1
        return self._dropped + position

    def keeps(self, index: int) -> bool:
        """Whether a step is still remembered."""
        return index >= self._dropped

    def row(self, index: int) -> list[int]:
        """Values of a step; of the oldest step kept when that one is gone, and of zeros before the first step."""
        if not self._at:
            return [0] * len(self._columns)
        position = max(0, index - self._dropped)
        return [column[position] for column in self._columns]

    def add(self, index: int, column: int, amounts: Sequence[int]) -> None:
        """Add to a column's values of the rows from `index` on, those that are kept, modulo 2**64."""
        values = self._columns[column]
        position = index - self._dropped
        for place, amount in enumerate(amounts, position):
            if amount and 0 <= place < len(values):
                values[place] = wrapped(values[place] + amount)

    def forget_before(self, index: int) -> None:
        """Drop rows older than `index` once enough of them have gathered to be worth the move."""
        surplus = min(index - self._dropped, len(self._at) - _KEPT_ROWS)
        if len(self._at) > _MAX_ROWS:
            surplus = len(self._at) - _MAX_ROWS // 2
        if surplus < _KEPT_ROWS:
            return
        del self._at[:surplus]
        for column in self._columns:
            del column[:surplus]
        self._dropped += surplus
