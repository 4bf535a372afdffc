"""What each sequence of a step truly cost: its Shapley value.

The players are the sequences in the step; a set of them is worth what the power model says of a pass over only them,
and no sequence at all costs nothing. The values sum to the step's energy. Steps of few sequences are computed from
all their subsets, which is exact. Others are sampled: orders come with their reverse (which is exact wherever the worth
is quadratic) and with rotations of both, so that every sequence comes early, late and in between equally often.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.attribution.power_model import BatchWork, FloatArray, PowerModel
from bench.attribution.trace import BatchMembers

_EXACT_PLAYERS: Final = 11
_ROTATIONS: Final = 16
# Independent samples of a step; a few tell their error well enough, as it is summed over the many steps of a request.
# Beside a prompt the order matters much, among sequences that all decode it hardly does.
_SAMPLES_OF_DECODE: Final = 2
_SAMPLES_WITH_PREFILL: Final = 10


@dataclass(frozen=True, slots=True)
class ShapleyValues:
    """Joules of each sequence of a step, and the variance of its sampling (zero where it is exact)."""

    joules: FloatArray
    variance: FloatArray


def shapley_values(model: PowerModel, members: BatchMembers, rng: np.random.Generator) -> ShapleyValues:
    """The Shapley values of a step; `rng` orders the sequences of steps too large to be computed exactly."""
    if len(members.requests) <= _EXACT_PLAYERS:
        return _exact(model, members)
    return _sampled(model, members, rng)


def _exact(model: PowerModel, members: BatchMembers) -> ShapleyValues:
    subsets, coefficients = _subsets(len(members.requests))
    worth = model.joules(
        BatchWork(
            subsets.sum(axis=1),
            subsets @ members.tokens,
            subsets @ members.attended_pairs,
            subsets @ members.context_tokens,
        )
    )
    joules: FloatArray = coefficients @ worth
    return ShapleyValues(joules, np.zeros_like(joules))


def _sampled(model: PowerModel, members: BatchMembers, rng: np.random.Generator) -> ShapleyValues:
    count = len(members.requests)
    drawn = _SAMPLES_WITH_PREFILL if any(members.in_prefill) else _SAMPLES_OF_DECODE
    orders = np.concatenate([_orders(count, rng) for _ in range(drawn)])
    positions = np.broadcast_to(np.arange(1.0, count + 1), orders.shape)
    worth = model.joules(
        BatchWork(
            positions,
            members.tokens[orders].cumsum(axis=1),
            members.attended_pairs[orders].cumsum(axis=1),
            members.context_tokens[orders].cumsum(axis=1),
        )
    )
    added = np.diff(worth, axis=1, prepend=0.0)
    samples = np.empty((drawn, count))
    for sample, (rows, values) in enumerate(zip(np.split(orders, drawn), np.split(added, drawn), strict=True)):
        samples[sample] = np.bincount(rows.ravel(), weights=values.ravel(), minlength=count) / len(rows)
    return ShapleyValues(samples.mean(axis=0), samples.var(axis=0, ddof=1) / drawn)


def _orders(count: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """One random order of the players, its rotations and the reverse of each, one a row."""
    rotations = min(count, _ROTATIONS)
    starts = (np.arange(rotations) * count // rotations)[:, None]
    order = rng.permutation(count)[(np.arange(count)[None, :] + starts) % count]
    return np.concatenate([order, order[:, ::-1]])


@lru_cache
def _subsets(count: int) -> tuple[FloatArray, FloatArray]:
    """All subsets of so many players, a row of zeros and ones each, and what their worths weigh for each player."""
    subsets = ((np.arange(2**count)[:, None] >> np.arange(count)) & 1).astype(np.float64)
    sizes = subsets.sum(axis=1).astype(int)
    weight = np.array([1.0 / (count * comb(count - 1, size)) for size in range(count)])
    joining = np.where(sizes > 0, weight[sizes - 1], 0.0)
    staying = np.where(sizes < count, weight[np.minimum(sizes, count - 1)], 0.0)
    coefficients = np.where(subsets.T > 0, joining, -staying)
    return subsets, coefficients
