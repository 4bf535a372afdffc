"""Pictures made of characters: bars, and a curve of what was last. What is not known leaves a gap, not a zero."""

from collections.abc import Sequence
from typing import Final

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_HEIGHTS: Final = " ▁▂▃▄▅▆▇█"
_FULL: Final = 8
_NOT_KNOWN: Final = "·"


def bar(ratio: float | None, width: int) -> str:
    """A bar of `width` columns, filled to `ratio`, in steps of an eighth of a column. Anything above 0 can be seen."""
    if ratio is None:
        return _NOT_KNOWN * width
    eighths = round(min(1.0, max(0.0, ratio)) * width * _FULL)
    if ratio > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, _FULL)
    filled = _EIGHTHS[_FULL] * full + (_EIGHTHS[rest] if rest else "")
    return filled.ljust(width)


def curve(samples: Sequence[float | None], width: int, height: int) -> list[str]:
    """The last `width` samples as lines from top to bottom, from 0 to the largest of them."""
    shown = list(samples)[-width:]
    top = max((value for value in shown if value is not None), default=0.0)
    columns = [_column(value, top, height) for value in shown]
    return ["".join(column[row] for column in columns).rjust(width) for row in range(height)]


def _column(value: float | None, top: float, height: int) -> str:
    """One sample's characters from top to bottom."""
    if value is None:
        return " " * (height - 1) + _NOT_KNOWN
    eighths = round(value / top * height * _FULL) if top > 0 else 0
    eighths = max(1, eighths)  # a sample of 0 W is a sample
    cells = [_HEIGHTS[min(_FULL, max(0, eighths - _FULL * row))] for row in range(height)]
    return "".join(reversed(cells))
