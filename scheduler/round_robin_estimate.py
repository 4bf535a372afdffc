"""What round-robin would have spent beyond what was spent, by what was learned of the workers' steps and power.

Both are computed alike, so that errors of the curves fall out of the difference: with one worker, or with work that was
spread evenly anyway, it is nothing. Knows nothing of where the energy is booked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

from scheduler.worker_model import WorkerModel

# Halvings of the range of batches: far finer than the curves are known.
_HALVINGS: Final = 30


@dataclass(frozen=True, slots=True)
class WorkerSpan:
    """What one worker did in a stretch of time: forward passes, their seconds, the tokens they decoded and prefilled.

    One that is not `is_awake` was parked at its end, and draws what bare hardware does while it does nothing.
    """

    model: WorkerModel
    is_awake: bool
    steps: int = 0
    step_seconds: float = 0.0
    decode_tokens: int = 0
    prefill_tokens: int = 0

    @property
    def batch(self) -> float:
        """Sequences decoded in a pass, in the mean; below 1 where passes only computed prompts."""
        return self.decode_tokens / self.steps if self.steps else 0.0

    @property
    def predicted_seconds(self) -> float:
        """How long these passes take by what was learned."""
        return self.steps * self.model.steps.at(self.batch) + self.prefill_tokens * self.model.prefill_token_seconds


def round_robin_extra_joules(spans: Sequence[WorkerSpan], elapsed_seconds: float) -> float:
    """Joules that taking turns over all `spans`, all awake, would have taken beyond what they took; may be negative.

    Work comes in the part of the time in which the busiest worker was busy, and is spread over that: requests that were
    gathered count as if they had come together, which favours round-robin.
    """
    if not spans or elapsed_seconds <= 0:
        return 0.0
    spread = _Spread(spans, elapsed_seconds)
    return sum(spread.even_joules(span) - _spent_joules(span, elapsed_seconds) for span in spans)


def _spent_joules(span: WorkerSpan, elapsed_seconds: float) -> float:
    model, busy_seconds = span.model, min(span.step_seconds, elapsed_seconds)
    rest_watts = model.idle_watts if span.is_awake else model.parked_watts
    return busy_seconds * _watts(model, max(1.0, span.batch)) + (elapsed_seconds - busy_seconds) * rest_watts


def _watts(model: WorkerModel, sequences: float) -> float:
    """Power with so many sequences in the mean; below 1 it is busy with one for that share of the time."""
    if sequences >= 1:
        return max(model.idle_watts, model.power.at(sequences))
    return model.idle_watts + sequences * (_watts(model, 1.0) - model.idle_watts)


class _Spread:
    """The work of all workers in equal parts."""

    def __init__(self, spans: Sequence[WorkerSpan], elapsed_seconds: float) -> None:
        count = self._workers = len(spans)
        self._elapsed_seconds = elapsed_seconds
        self._steps = sum(span.steps for span in spans) / count
        self._decode_tokens = sum(span.decode_tokens for span in spans) / count
        self._prefill_tokens = sum(span.prefill_tokens for span in spans) / count
        self._busy_seconds = min(elapsed_seconds, max(span.step_seconds for span in spans))
        # An engine with one sequence decodes one token a pass, and fewer only where passes compute nothing but prompts.
        self._least_batch = min(1.0, self._decode_tokens / self._steps) if self._steps else 1.0
        self._most_batch = max(self._least_batch, *(span.batch for span in spans))
        self._pace = _pace(spans)

    def even_joules(self, span: WorkerSpan) -> float:
        """What this worker would have spent on its part."""
        model, worked_seconds = span.model, self._busy_seconds
        joules = (self._elapsed_seconds - worked_seconds) * model.idle_watts
        if worked_seconds <= 0:
            return joules
        batch, busy_seconds = self._even_load(model, _pace([span]) if span.steps else self._pace)
        sequences = max(1.0, batch) * min(1.0, busy_seconds / worked_seconds)
        return joules + worked_seconds * sum(
            ratio * _watts(model, many) for many, ratio in _by_chance(sequences, self._workers)
        )

    def _even_load(self, model: WorkerModel, pace: float) -> tuple[float, float]:
        """The batch at which its part fits into the busy time, and the seconds it takes: the smallest if there is room.

        `pace` is how much longer its passes took than was learned, in this very stretch.
        """
        least, most = self._least_batch, self._most_batch
        seconds = pace * self._seconds(model, least)
        if seconds <= self._busy_seconds:
            return least, seconds
        for _ in range(_HALVINGS):
            middle = (least + most) / 2
            if pace * self._seconds(model, middle) <= self._busy_seconds:
                most = middle
            else:
                least = middle
        return most, min(self._elapsed_seconds, pace * self._seconds(model, most))

    def _seconds(self, model: WorkerModel, batch: float) -> float:
        steps = self._decode_tokens / batch if self._decode_tokens else self._steps
        return steps * model.steps.at(batch) + self._prefill_tokens * model.prefill_token_seconds


def _by_chance(mean: float, workers: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Two loads of a worker, and the share of the time it has each; their mean and variance are those of taking turns.

    Requests that come by chance (Poisson) and go in turns to n workers come to each after n gaps: the squared
    coefficient of variation of that is 1/n, and the variance of the requests in service over their mean, for answers
    much longer than the gaps, half of 1 + 1/n (peakedness; Eckberg, ITC 10, 1983). Less what all workers share,
    which was seen, half of 1 - 1/n is left: nothing for one worker.
    """
    variance = mean * (1 - 1 / workers) / 2
    deviation = sqrt(variance)
    if deviation < mean:
        return (mean - deviation, 0.5), (mean + deviation, 0.5)
    # Not below none: nothing, or more for less of the time.
    ratio = mean * mean / (mean * mean + variance) if mean > 0 else 0.0
    return (0.0, 1 - ratio), (mean / ratio if ratio else 0.0, ratio)


def _pace(spans: Sequence[WorkerSpan]) -> float:
    predicted_seconds = sum(span.predicted_seconds for span in spans)
    return sum(span.step_seconds for span in spans) / predicted_seconds if predicted_seconds > 0 else 1.0
