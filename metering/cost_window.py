"""Gathers steps until a counter can tell what they cost together, and teaches the cost model their mean.

A counter that refreshes ten times a second smears a step's energy into its neighbours: learned step by step, a prompt's
cost would look smaller than it is and its neighbours' larger. Over several refreshes the sum is right.
"""

from typing import Final

from metering.step_cost import StepCostModel

# Three refreshes of the slowest counter we know; 0.1 to 0.5 s serve about as well (`wattline bench attribution`).
_WINDOW_SECONDS: Final = 0.3


class CostWindow:
    """Sums over the steps since the model was last taught."""

    def __init__(self, cost: StepCostModel) -> None:
        self._cost = cost
        self._steps = self._computed_tokens = self._sequences = self._context_tokens = self._microjoules = 0
        self._seconds = 0.0

    def add(self, computed_tokens: int, sequences: int, context_tokens: int, seconds: float, microjoules: int) -> None:
        """Take in a step; `microjoules` is what it cost over all components, `seconds` how long it took."""
        self._steps += 1
        self._computed_tokens += computed_tokens
        self._sequences += sequences
        self._context_tokens += context_tokens
        self._microjoules += microjoules
        self._seconds += seconds
        if self._seconds < _WINDOW_SECONDS:
            return
        steps = self._steps
        self._cost.learn(
            self._computed_tokens / steps,
            self._sequences / steps,
            self._context_tokens / steps,
            self._microjoules / steps,
        )
        self.clear()

    def clear(self) -> None:
        """Forget what has gathered: the engine paused, and its next steps are no part of the same stretch."""
        self._steps = self._computed_tokens = self._sequences = self._context_tokens = self._microjoules = 0
        self._seconds = 0.0
