"""The requests of one benchmark and when each is sent: drawn once from a seed, the same for every run.

Arrivals are a Poisson process: users who do not wait for each other. Whether an earlier request was answered changes
nothing (an open loop), so that a slow policy cannot thin out its own load.
"""

import math
import random
from dataclasses import dataclass
from typing import Final

# Ordinary words that tokenizers of English know whole. Each prompt is a random sequence of them, so that prompts share
# no beginning but the chat template: an engine's prefix cache must not favour the policy that sends all to one engine.
_WORDS: Final = (
    "river stone garden window letter winter music market silver engine harbour teacher forest candle mirror bridge "
    "summer planet coffee story paper mountain kitchen signal island thunder orange village morning shadow"
)
_FEWEST_PROMPT_WORDS: Final = 10
_MOST_PROMPT_WORDS: Final = 100
# Answers are from this share of the longest to the longest: engines lose and win sequences at any time, as in service.
_SHORTEST_ANSWER_RATIO: Final = 0.5


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request: sent `at_seconds` after the start, answered with exactly `output_tokens`."""

    at_seconds: float
    prompt: str
    output_tokens: int


def plan(requests: int, requests_per_second: float, most_output_tokens: int, seed: int) -> tuple[PlannedRequest, ...]:
    """The requests in the order of their arrival, the first at 0; the same arguments give the same requests.

    Prompts have 10 to 100 words, short ones more often (log-uniform). Answers have half to all of
    `most_output_tokens`, uniformly.
    """
    chance = random.Random(seed)
    vocabulary = _WORDS.split()
    planned = []
    at_seconds = 0.0
    for _ in range(requests):
        words = round(math.exp(chance.uniform(math.log(_FEWEST_PROMPT_WORDS), math.log(_MOST_PROMPT_WORDS))))
        fewest = math.ceil(most_output_tokens * _SHORTEST_ANSWER_RATIO)
        output_tokens = chance.randint(fewest, most_output_tokens)
        planned.append(PlannedRequest(at_seconds, " ".join(chance.choices(vocabulary, k=words)), output_tokens))
        at_seconds += chance.expovariate(requests_per_second)
    return tuple(planned)
