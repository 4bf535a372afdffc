"""The latest steps, whose energy is not final: counters refresh ten times a second, steps end up to a hundred times.

Until a counter has told what it stood at when a step ended, the step's energy is extrapolated. Here stands what was
booked for it, and how many of those who got their first token since are still there to be charged otherwise.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.supply import Draw


_AT_ONCE: Final = 3
# A counter that is believed for three seconds, an engine of 300 steps a second: more are not waited for.
_MAX_STEPS: Final = 1024


@dataclass(slots=True)
class FirstTokens:
    """Sequences that got their first token in one row and have not ended: how many, and sums over them.

    `offset` sums the length of their prompts less the clock of the row, `tokens` the prompt tokens that were computed.
    """

    sequences: int = 0
    offset: int = 0
    tokens: int = 0

    def add(self, other: FirstTokens) -> None:
        self.sequences += other.sequences
        self.offset += other.offset
        self.tokens += other.tokens

    def remove(self, sequences: int, offset: int, tokens: int) -> None:
        self.sequences -= sequences
        self.offset -= offset
        self.tokens -= tokens


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


class Tail:
    """Steps in order, from the oldest that is not final to the latest."""

    def __init__(self) -> None:
        self._steps: deque[TailStep] = deque()
        self._first = FirstTokens()  # of all steps together

    def __len__(self) -> int:
        return len(self._steps)

    def append(self, step: TailStep) -> None:
        """Add the latest step."""
        self._steps.append(step)
        self._first.add(step.first)

    def pop_final(self) -> Iterator[tuple[TailStep, FirstTokens]]:
        """Take out a few of the steps at the front that have become final; the others are left for the next time.

        Each comes with the sequences, still there, that got their first token in it or after it. A reading makes ten
        and more steps final at once, and no one step is to wait for the work of all.
        """
        for _ in range(max(_AT_ONCE, len(self._steps) // 8)):
            if not self._steps or not (self._steps[0].is_final or len(self._steps) > _MAX_STEPS):
                return
            step = self._steps.popleft()
            yield step, self._first
            self._first.remove(step.first.sequences, step.first.offset, step.first.tokens)

    def clear(self) -> None:
        """Forget all steps."""
        self._steps.clear()
        self._first = FirstTokens()

    def forget(self, row: int, offset: int, tokens: int) -> None:
        """A sequence that got its first token in `row` has ended."""
        for step in self._steps:
            if step.row == row and step.first.sequences:
                step.first.remove(1, offset, tokens)
                self._first.remove(1, offset, tokens)
                return
