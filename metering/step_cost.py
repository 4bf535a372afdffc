"""What a step's energy is spent on: learned online from the steps themselves.

The energy of a step is modelled as

    base + per prefill token + per decoding sequence + per token of context read

with four costs that are never negative. The base is what a step costs whoever is in it (reading the weights, mostly).
Only the proportions matter: what a step really cost is measured, and shared out by them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Half of what was learned is forgotten after about 70 lessons, each of 0.3 s of steps: after some 20 s of traffic.
_KEEP_RATIO: Final = 0.99
# Typical sizes of the four features: they condition the equations, nothing else.
_SCALES: Final = (1.0, 256.0, 16.0, 8192.0)
# In what proportion the four cost before anything is known, for those sizes. An 8-billion-parameter model on an H100
# reads its weights in about 5 ms and computes 256 prompt tokens in about as long (16 GB at 3.35 TB/s; 4 TFLOP at some
# 700 TFLOP/s); one sequence adds little, its context less.
_PRIOR: Final = (1.0, 1.0, 0.2, 0.1)
# How many lessons the present belief counts as, in directions the traffic says nothing about.
_INERTIA_LESSONS: Final = 0.2
# Counters tell whole microjoules; what is far below one is no energy.
_NOTHING: Final = 1e-12

_N: Final = len(_SCALES)


@dataclass(frozen=True, slots=True)
class StepWeights:
    """Parts of a step's energy, in one arbitrary unit; only their proportions mean anything.

    `prefill_base` and `prefill_tokens` belong to sequences computing their prompts, by head and by token;
    `recompute` to sequences that were preempted; `decode_each` to the decoding sequences by head, `decode_context` to
    them by the length of their contexts.
    """

    prefill_base: float
    prefill_tokens: float
    recompute: float
    decode_each: float
    decode_context: float

    def as_tuple(self) -> tuple[float, float, float, float, float]:
        return self.prefill_base, self.prefill_tokens, self.recompute, self.decode_each, self.decode_context


class StepCostModel:
    """Non-negative least squares with forgetting, on relative errors, so that long steps do not rule the short ones.

    Each solution stays near the one before where the traffic does not tell (only decode steps, say).
    """

    def __init__(self) -> None:
        self._costs = [0.0] * _N  # of features of the sizes in _SCALES
        self._square = [[0.0] * _N for _ in range(_N)]
        self._right = [0.0] * _N
        self._free = list(range(_N))  # costs that are not held at zero
        self._lessons = 0
        self._remembered = 0.0  # lessons, the forgotten ones counted less

    def weights(
        self, prefill_tokens: int, prefill_sequences: int, recomputed_tokens: int, sequences: int, context_tokens: int
    ) -> StepWeights:
        """Parts of a step with `sequences` decoding, whose contexts are `context_tokens` long in all.

        The base is shared by head among all sequences of the step, as the Shapley value shares a fixed cost. A step of
        work that is believed to cost nothing, as decoding may be after the first few long prompts, is split as before
        anything was known: it did cost what was measured, and those who took part own it.
        """
        work = prefill_tokens, prefill_sequences, recomputed_tokens, sequences, context_tokens
        weights = _split(self._costs if self._lessons else _PRIOR, *work)
        return weights if any(weights.as_tuple()) else _split(_PRIOR, *work)

    def learn(self, computed_tokens: float, sequences: float, context_tokens: float, energy: float) -> None:
        """Take in what a step cost, or the mean of several.

        `energy` may be in any unit, always the same; what cost nothing teaches nothing.
        """
        if energy < _NOTHING:
            return
        features = (1.0, computed_tokens / _SCALES[1], sequences / _SCALES[2], context_tokens / _SCALES[3])
        if not self._lessons:
            unit = energy / sum(a * b for a, b in zip(_PRIOR, features, strict=True))
            self._costs = [unit * cost for cost in _PRIOR]
        self._lessons += 1
        expected = sum(a * b for a, b in zip(self._costs, features, strict=True))
        scaled = [feature / max(expected, 0.05 * energy) for feature in features]
        target = energy / max(expected, 0.05 * energy)
        for i, row in enumerate(self._square):
            factor = scaled[i]
            for j in range(_N):
                row[j] = row[j] * _KEEP_RATIO + factor * scaled[j]
            self._right[i] = self._right[i] * _KEEP_RATIO + factor * target
        self._remembered = self._remembered * _KEEP_RATIO + 1.0
        self._solve()

    def _solve(self) -> None:
        """One step of an active-set method: solve for the free costs, then hold or free one for the next time."""
        inertia = _INERTIA_LESSONS * self._square[0][0] / self._remembered
        square = [
            [value + (inertia if i == j else 0.0) for j, value in enumerate(r)] for i, r in enumerate(self._square)
        ]
        right = [value + inertia * cost for value, cost in zip(self._right, self._costs, strict=True)]
        solution = _solved(square, right, self._free)
        while min(solution) < 0:
            self._free.remove(min(self._free, key=solution.__getitem__))
            solution = _solved(square, right, self._free)
        self._costs = solution
        held = [i for i in range(_N) if i not in self._free]
        gains = {i: right[i] - sum(a * b for a, b in zip(square[i], solution, strict=True)) for i in held}
        if gains and max(gains.values()) > 0:
            self._free = sorted([*self._free, max(gains, key=gains.__getitem__)])


def _split(
    costs: Sequence[float],
    prefill_tokens: int,
    prefill_sequences: int,
    recomputed_tokens: int,
    sequences: int,
    context_tokens: int,
) -> StepWeights:
    base, per_prefill, per_sequence, per_context = costs
    heads = prefill_sequences + sequences
    base_each = base / heads if heads else 0.0
    return StepWeights(
        prefill_base=base_each * prefill_sequences,
        prefill_tokens=per_prefill * prefill_tokens / _SCALES[1],
        recompute=per_prefill * recomputed_tokens / _SCALES[1],
        decode_each=(base_each + per_sequence / _SCALES[2]) * sequences,
        decode_context=per_context * context_tokens / _SCALES[3] if sequences else 0.0,
    )


def _solved(square: list[list[float]], right: list[float], free: list[int]) -> list[float]:
    """The solution of the equations of the `free` unknowns, by elimination; the others are zero.

    The matrix is symmetric and, thanks to the inertia on its diagonal, positive definite: no pivoting is needed.
    """
    rows = [[*(square[i][j] for j in free), right[i]] for i in free]
    size = len(free)
    for k in range(size):
        pivot = rows[k]
        if pivot[k] == 0.0:  # lost to rounding, among values that no engine tells
            return [0.0] * len(right)
        for row in rows[k + 1 :]:
            factor = row[k] / pivot[k]
            for j in range(k, size + 1):
                row[j] -= factor * pivot[j]
    solution = [0.0] * len(right)
    for k in range(size - 1, -1, -1):
        rest = sum(rows[k][j] * solution[free[j]] for j in range(k + 1, size))
        solution[free[k]] = (rows[k][size] - rest) / rows[k][k]
    return solution
