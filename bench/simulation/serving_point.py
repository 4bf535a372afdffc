"""What an engine does in a steady state with a constant number of sequences: the published form of measured points."""

import math
from dataclasses import dataclass
from typing import Final

from bench.simulation.engine_model import EngineModel

# Of ML.ENERGY's chat workload (lm-arena-chat) output lengths are published and prompt lengths are not. With these two
# the batches at which the measured engines ran out of KV cache agree with their memory to about 15 %.
CHAT_PROMPT_TOKENS: Final = 200.0
# A running sequence is met, on average, after this many times the mean output: 0.5 if all outputs were equally long,
# more as longer ones run for longer.
CHAT_PROGRESS_RATIO: Final = 0.9
# Of the prompt tokens a step has on average, the median step has so few: prompt lengths have a long tail.
_MEDIAN_PREFILL_RATIO: Final = 0.48


@dataclass(frozen=True, slots=True)
class Workload:
    """The mean sequence count that runs, and mean lengths of prompts and outputs."""

    sequences: float
    output_tokens: float
    prompt_tokens: float = CHAT_PROMPT_TOKENS
    progress_ratio: float = CHAT_PROGRESS_RATIO


@dataclass(frozen=True, slots=True)
class ServingPoint:
    """What is measured of a steady state."""

    power_watts: float
    joules_per_output_token: float
    median_inter_token_seconds: float


def serving_point(engine: EngineModel, work: Workload) -> ServingPoint:
    """The closed loop in which every sequence that ends is followed by another at once.

    The mean step prefills as many prompts as sequences end in a step. The median step prefills none as long as fewer
    than ln 2 begin in a step (a Poisson count is then 0 in most steps), and beyond that some.
    """
    context = work.sequences * (work.prompt_tokens + work.progress_ratio * work.output_tokens)
    beginning = work.sequences / work.output_tokens
    prefill = beginning * work.prompt_tokens
    pairs = prefill * work.prompt_tokens / 2
    watts = engine.step_watts(work.sequences, context, prefill, pairs)
    seconds = engine.step_seconds(work.sequences, context, prefill, pairs)
    in_median = _MEDIAN_PREFILL_RATIO * math.sqrt(max(0.0, 1 - math.log(2) / beginning))
    return ServingPoint(
        power_watts=watts,
        joules_per_output_token=watts * seconds / work.sequences,
        median_inter_token_seconds=engine.step_seconds(work.sequences, context, prefill * in_median, pairs * in_median),
    )
