"""What one step of an engine takes, in seconds and watts. Plain float arithmetic: a simulator asks millions of times.

Only the form of the model lives here. What GPUs and models are made of is in `hardware.py` and `models.py`, how an
engine follows from them in `presets.py`. The form, where it comes from and its limits: docs/gpu-model.md.
"""

from dataclasses import dataclass
from typing import Final

from bench.simulation.batch_correction import BATCHES

# How sharply power bends into the limit: at 1 it creeps towards it from the start, at infinity it hits it. 4 to 10 fit
# the measured points about equally well.
_BEND: Final = 8.0
_LARGEST_BATCH: Final = BATCHES[-1]


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """What a step's time is made of, each for the whole engine.

    `launch` and `per_sequence` are the host's work, the others the device's. A pair is one prompt token of a chunk
    with one token that it attends to.
    """

    launch: float
    per_sequence: float
    weights: float
    per_token: float
    per_context_token: float
    per_pair: float


@dataclass(frozen=True, slots=True)
class StepJoules:
    """What a step costs beside the idle engine, by the same causes; `busy_watts` for as long as anything runs."""

    busy_watts: float
    per_sequence: float
    weights: float
    per_token: float
    per_context_token: float
    per_pair: float


@dataclass(frozen=True, slots=True)
class EngineModel:
    """One engine: a model on the GPUs it needs, all figures for the whole engine (the sum over its GPUs).

    `hardware` is the class of its GPUs (`h100`, say). `idle_watts` has the model loaded and nothing running,
    `parked_watts` has the process stopped, `start_watts` is the mean while it starts; power saturates at
    `limit_watts`. `untouched_ratio` is the share of the weights that one token leaves unread: 0 but for mixtures of
    experts. `measured` says that the figures were fitted to points of this very model on this very hardware; where it
    is false they follow from sizes. `seconds_by_batch` are factors on decoding for
    0, 1, 2 ... sequences, or none; the last is for all beyond (see `batch_correction.py`).
    """

    name: str
    hardware: str
    gpus: int
    idle_watts: float
    parked_watts: float
    limit_watts: float
    start_seconds: float
    start_watts: float
    kv_capacity_tokens: int
    seconds: StepSeconds
    joules: StepJoules
    untouched_ratio: float = 0.0
    measured: bool = False
    max_sequences: int = 256
    max_batched_tokens: int = 2048
    seconds_by_batch: tuple[float, ...] = ()

    def step_seconds(
        self,
        sequences: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """How long a step takes; 0 where there is nothing to run.

        `sequences` decode, over `context_tokens` in all; `prefill_tokens` of prompts are computed beside them, and
        `prefill_context_tokens` sums each chunk's tokens times the mean context they attend to.

        Reading the weights overlaps with multiplying by them, and the host's work with the device's: each two take the
        root of the sum of their squares, a roofline with a soft corner. Prompts come on top.
        """
        tokens = sequences + prefill_tokens
        if tokens <= 0:
            return 0.0
        cost = self.seconds
        weights = cost.weights
        if self.untouched_ratio:
            weights *= 1.0 - self.untouched_ratio**tokens
        products = cost.per_token * sequences
        device = (weights * weights + products * products) ** 0.5 + cost.per_context_token * context_tokens
        host = cost.launch + cost.per_sequence * sequences
        prefill = cost.per_token * prefill_tokens + cost.per_pair * prefill_context_tokens
        decode = (device * device + host * host) ** 0.5
        if self.seconds_by_batch:
            decode *= self.seconds_by_batch[int(sequences) if sequences < _LARGEST_BATCH else -1]
        return decode + prefill  # type: ignore[no-any-return]  # float ** is Any

    def step_watts(
        self,
        sequences: float,
        context_tokens: float,
        prefill_tokens: float = 0.0,
        prefill_context_tokens: float = 0.0,
    ) -> float:
        """The mean power of such a step, from `idle_watts` (nothing to run) to `limit_watts`."""
        tokens = sequences + prefill_tokens
        if tokens <= 0:
            return self.idle_watts
        cost = self.joules
        weights = cost.weights
        if self.untouched_ratio:
            weights *= 1.0 - self.untouched_ratio**tokens
        joules = (
            weights
            + cost.per_token * tokens
            + cost.per_sequence * sequences
            + cost.per_context_token * context_tokens
            + cost.per_pair * prefill_context_tokens
        )
        seconds = self.step_seconds(sequences, context_tokens, prefill_tokens, prefill_context_tokens)
        room = self.limit_watts - self.idle_watts
        share = (cost.busy_watts + joules / seconds) / room
        return self.idle_watts + room * share / (1.0 + share**_BEND) ** (1.0 / _BEND)  # type: ignore[no-any-return]
