"""The latest steps, whose energy is not final: counters refresh ten times a second, steps end up to a hundred times.

Until a counter has told what it stood at when a step ended, the step's energy is extrapolated. Here stands what was
booked for it, and how many of those who got their first token since are still there to be charged otherwise.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.supply import Draw


@dataclass(slots=True)
class FirstTokens:
    """Sequences that got their first token in one row and have not ended: how many, and sums over them.

    `offset` sums the length of their prompts less the clock of the row, `tokens` the prompt tokens that were computed.
    """

    sequences: int = 0
    offset: int = 0
    tokens: int = 0


@dataclass(slots=True)
class TailStep:
    """A step as it was booked. `row` is the history's first row at or after it; `draws` is the energy it was given.

    `weights` are the parts it was split by, `context` the length of the contexts it read, `clock` its clock;
    `own_prompts` says that the prompts completed with it were computed in it from beginning to end, so that their price
    is this step's alone.
    """

    row: int
    draws: list[Draw]
    weights: tuple[float, ...]
    computed_tokens: int
    sequences: int
    context: int
    clock: int
    prompt_tokens: int
    prompts: int
    own_prompts: bool
    first: FirstTokens = field(default_factory=FirstTokens)

    @property
    def is_final(self) -> bool:
        return all(draw.is_final for draw in self.draws)

    @property
    def is_void(self) -> bool:
        """A counter's fault lies between: what it tells now is not comparable with what it told then."""
        return any(draw.is_void for draw in self.draws)


class Tail:
    """Steps in order, from the oldest that is not final to the latest."""

    def __init__(self) -> None:
        self._steps: deque[TailStep] = deque()

    def __iter__(self) -> Iterator[TailStep]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)

    def append(self, step: TailStep) -> None:
        self._steps.append(step)

    def pop_final(self) -> list[TailStep]:
        """Take out the steps at the front that have become final."""
        final: list[TailStep] = []
        while self._steps and self._steps[0].is_final:
            final.append(self._steps.popleft())
        return final

    def clear(self) -> list[TailStep]:
        """Take out all steps, final or not."""
        steps = list(self._steps)
        self._steps.clear()
        return steps

    def forget(self, row: int, offset: int, tokens: int) -> None:
        """A sequence that got its first token in `row` has ended."""
        for step in self._steps:
            if step.row == row and step.first.sequences:
                step.first.sequences -= 1
                step.first.offset -= offset
                step.first.tokens -= tokens
                return
