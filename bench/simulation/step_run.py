"""Consecutive passes of an engine over one batch, as one object, however many they are."""

from dataclasses import dataclass
from math import ceil, floor, sqrt

from bench.simulation.engine_model import EngineModel

# Rounding of the closed forms below, in steps; a step's end is not told apart from an instant so near.
_STEP_TOLERANCE = 1e-9


@dataclass(slots=True)
class StepRun:
    """`steps` passes that start at `started_at_seconds`, each of `decoding` sequences.

    Contexts grow by a token a pass, so a pass's seconds and joules are taken to change evenly from the first to the
    last: exact where the model is linear in the context, and a chord of its curve elsewhere.
    """

    started_at_seconds: float
    steps: int
    decoding: int
    prefill_tokens: int
    first_seconds: float
    rise_seconds: float
    first_joules: float
    rise_joules: float

    @property
    def ends_at_seconds(self) -> float:
        return self.started_at_seconds + self.seconds_of(self.steps)

    def seconds_of(self, steps: int) -> float:
        """What the first `steps` passes take."""
        return steps * (self.first_seconds + (steps - 1) / 2 * self.rise_seconds)

    def joules_of(self, steps: int) -> float:
        """What the first `steps` passes spend."""
        return steps * (self.first_joules + (steps - 1) / 2 * self.rise_joules)

    def steps_done(self, now_seconds: float) -> int:
        """How many passes have ended by now."""
        return max(0, min(self.steps, floor(self._steps_at(now_seconds) + _STEP_TOLERANCE)))

    def joules_at(self, now_seconds: float) -> float:
        """What has been spent by now, the pass in progress by its share."""
        steps = max(0.0, min(float(self.steps), self._steps_at(now_seconds)))
        return steps * (self.first_joules + (steps - 1) / 2 * self.rise_joules)

    def end_after_step_in_progress(self, now_seconds: float) -> bool:
        """Cut the run so that it ends with the pass in progress; whether that changed anything."""
        steps = max(1, min(self.steps, ceil(self._steps_at(now_seconds) - _STEP_TOLERANCE)))
        changes = steps < self.steps
        self.steps = steps
        return changes

    def _steps_at(self, now_seconds: float) -> float:
        """The root of `seconds_of(steps) = elapsed`, not rounded."""
        elapsed_seconds = max(0.0, now_seconds - self.started_at_seconds)
        if not self.rise_seconds:
            return elapsed_seconds / self.first_seconds
        linear = self.first_seconds - self.rise_seconds / 2
        # The form that divides by a sum keeps its digits where the rise is tiny.
        return 2 * elapsed_seconds / (linear + sqrt(max(0.0, linear**2 + 2 * self.rise_seconds * elapsed_seconds)))


def decode_run(model: EngineModel, now_seconds: float, steps: int, sequences: int, context_tokens: int) -> StepRun:
    """`steps` passes over `sequences` that together attend to `context_tokens` in the first one."""
    first_seconds, first_joules = _seconds_and_joules(model, sequences, context_tokens)
    rise_seconds = rise_joules = 0.0
    if steps > 1:
        last_seconds, last_joules = _seconds_and_joules(model, sequences, context_tokens + (steps - 1) * sequences)
        rise_seconds = (last_seconds - first_seconds) / (steps - 1)
        rise_joules = (last_joules - first_joules) / (steps - 1)
    return StepRun(now_seconds, steps, sequences, 0, first_seconds, rise_seconds, first_joules, rise_joules)


def _seconds_and_joules(model: EngineModel, sequences: int, context_tokens: int) -> tuple[float, float]:
    seconds = model.step_seconds(sequences, context_tokens)
    return seconds, seconds * model.step_watts(sequences, context_tokens)
