"""What a forward pass over any set of sequences takes, in seconds and watts. The truth that the study compares with.

A roofline with soft corners. It is concave in almost everything (a second sequence shares the first one's pass over
the weights, and power saturates), so no linear model of a step's energy, the meter's own included, can reproduce it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What sets of sequences ask of one forward pass; the arrays are of one shape, one element per set.

    `tokens` go through the layers, `attended_pairs` are the (query, key) pairs of attention, `context_tokens` are
    those whose keys and values are read.
    """

    sequences: FloatArray
    tokens: FloatArray
    attended_pairs: FloatArray
    context_tokens: FloatArray


@dataclass(frozen=True, slots=True)
class PowerModel:
    """One model on one device. Rates are those reached, not those of the data sheet.

    A pass takes `launch_seconds`, `sequence_seconds` for each sequence (sampling, its share of the scheduler's work),
    and the time of its matrix products and of its attention, each bound by the slower of arithmetic and memory.
    Power rises from `idle_watts` towards `max_watts` with the shares of that time for which memory and arithmetic are
    busy, and saturates.
    """

    weight_bytes: float
    context_bytes_per_token: float
    flops_per_token: float
    flops_per_attended_pair: float
    memory_bytes_per_second: float
    flops_per_second: float
    attention_flops_ratio: float
    launch_seconds: float
    sequence_seconds: float
    idle_watts: float
    max_watts: float
    memory_weight: float
    compute_weight: float

    def seconds_and_watts(self, work: BatchWork) -> tuple[FloatArray, FloatArray]:
        """Duration and mean power of one pass over each set, none of them empty."""
        weights = self.weight_bytes / self.memory_bytes_per_second
        products = work.tokens * (self.flops_per_token / self.flops_per_second)
        context = work.context_tokens * (self.context_bytes_per_token / self.memory_bytes_per_second)
        attention_rate = self.flops_per_second * self.attention_flops_ratio
        attention = work.attended_pairs * (self.flops_per_attended_pair / attention_rate)
        seconds = self.launch_seconds + self.sequence_seconds * work.sequences
        seconds = seconds + np.hypot(weights, products) + np.hypot(context, attention)
        activity = self.memory_weight * (weights + context) + self.compute_weight * (products + attention)
        watts = self.max_watts - (self.max_watts - self.idle_watts) * np.exp(-activity / seconds)
        return seconds, watts

    def joules(self, work: BatchWork) -> FloatArray:
        """Energy of one pass over each set; the empty set's is zero, as no pass is made for it."""
        seconds, watts = self.seconds_and_watts(work)
        return np.where(work.sequences > 0, seconds * watts, 0.0)
