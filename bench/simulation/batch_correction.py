"""What the formulas of a measured engine leave unexplained of its step time, as factors by batch size.

Measured engines have habits that no formula of ours knows. Some vary slowly with the batch: those are fitted, at every
doubling, and interpolated in the logarithm of the batch. A step's joules stay as they are, so its watts follow.
"""

import math
from collections.abc import Callable
from typing import Final

BATCHES: Final = tuple(2**power for power in range(3, 12))  # 8 to 2,048: what was measured


def factors_by_sequences(factors: tuple[float, ...], seconds: Callable[[int], float]) -> tuple[float, ...]:
    """The factor for every number of sequences from 0 to the largest of `BATCHES`, of those given for `BATCHES`.

    `seconds` is the uncorrected step. A factor is raised where a further sequence would otherwise shorten it.
    """
    table = [_interpolated(factors, 0)]
    before = seconds(1)
    for sequences in range(1, BATCHES[-1] + 1):
        now = seconds(sequences)
        table.append(max(_interpolated(factors, sequences), table[-1] * before / now))
        before = now
    return tuple(table)


def _interpolated(factors: tuple[float, ...], sequences: int) -> float:
    place = math.log2(max(sequences, BATCHES[0]) / BATCHES[0])
    below = min(int(place), len(factors) - 2)
    share = place - below
    return math.pow(factors[below], 1 - share) * math.pow(factors[below + 1], share)
