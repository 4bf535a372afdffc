"""The requests of a scenario: when they arrive, how long they are, what their callers do. Drawn by a seed."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bench.attribution.power_model import BatchWork
from bench.attribution.presets import EnginePreset

_CACHE_BLOCK_TOKENS: Final = 16  # vLLM's default; a prefix is found in whole blocks


@dataclass(frozen=True, slots=True)
class Lengths:
    """Log-normal token counts, by their median, the deviation of their logarithm, and bounds."""

    median: float
    spread: float
    least: int
    most: int

    def draw(self, rng: np.random.Generator, ratio: float) -> int:
        tokens = self.median * float(np.exp(self.spread * rng.standard_normal()))
        return max(1, round(min(max(tokens, self.least), self.most) * ratio))


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request, and how often it comes relative to the others of its scenario."""

    prompt: Lengths
    output: Lengths
    weight: float = 1.0
    shared_prefix_tokens: int = 0
    hit_ratio: float = 0.0
    samples: tuple[int, ...] = (1,)
    abort_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A mix of requests that keeps about `running_sequences` in the engine; `burst` of them arrive at once.

    `context_capacity_ratio` scales the engine's room for context: below what is asked of it, sequences are preempted.
    """

    name: str
    about: str
    kinds: tuple[Kind, ...]
    running_sequences: float
    burst: int = 1
    requests: int = 600
    context_capacity_ratio: float = 1.0


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """One request to come. Each sample is a sequence of its own; all but the first find the prompt cached.

    `aborts_after_seconds` is how long the caller waits before it leaves, None if it stays.
    """

    arrives_at_seconds: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: tuple[int, ...]
    aborts_after_seconds: float | None = None

    def cached_tokens_of(self, sample: int) -> int:
        """Prompt tokens a sample need not compute; the last one always is, since it gives the first token."""
        if sample == 0:
            return self.cached_tokens
        return max(self.cached_tokens, _whole_blocks(self.prompt_tokens - 1))


_CHAT: Final = Kind(Lengths(180, 0.9, 8, 3000), Lengths(180, 0.7, 4, 800))

SCENARIOS: Final = (
    Scenario("chat", "a steady mix of chats", (_CHAT,), running_sequences=24),
    Scenario("sparse", "one or two chats at a time, pauses between them", (_CHAT,), running_sequences=0.7, requests=80),
    Scenario(
        "bursty",
        "long prompts in bursts of twelve, computed in chunks beside running chats",
        (Kind(Lengths(2200, 0.5, 600, 6000), Lengths(90, 0.6, 8, 300), weight=3), _CHAT),
        running_sequences=10,
        burst=12,
    ),
    Scenario(
        "long-context",
        "one in eight has a context of many thousand tokens, beside short chats",
        (Kind(Lengths(9000, 0.3, 5000, 16000), Lengths(200, 0.5, 30, 500)), replace(_CHAT, weight=7)),
        running_sequences=20,
        requests=400,
    ),
    Scenario(
        "short",
        "many requests of one to a few dozen tokens, as classifiers send them",
        (Kind(Lengths(60, 0.6, 8, 300), Lengths(6, 0.9, 1, 40)),),
        running_sequences=12,
        requests=3000,
    ),
    Scenario(
        "prefix",
        "a long shared system prompt that most requests find in the cache",
        (Kind(Lengths(120, 0.8, 8, 1500), Lengths(150, 0.6, 4, 500), shared_prefix_tokens=1600, hit_ratio=0.85),),
        running_sequences=24,
    ),
    Scenario(
        "rough",
        "several samples a request, callers that leave, and too little room for context, so that some are preempted",
        (replace(_CHAT, samples=(1, 1, 2, 4), abort_ratio=0.1),),
        running_sequences=40,
        context_capacity_ratio=0.04,
        requests=300,
    ),
)


def plan_requests(
    scenario: Scenario, preset: EnginePreset, rng: np.random.Generator, starts_at_seconds: float = 0.0
) -> tuple[RequestPlan, ...]:
    """The scenario's requests for an engine, in order of arrival; arrivals are Poisson, in bursts if it says so."""
    weights = np.array([kind.weight for kind in scenario.kinds])
    kinds = [
        scenario.kinds[i] for i in rng.choice(len(scenario.kinds), scenario.requests, p=weights / float(weights.sum()))
    ]
    drafts = [_draw(kind, preset, rng) for kind in kinds]
    mean_gap = _seconds_per_request(scenario, preset, drafts)
    plans: list[RequestPlan] = []
    now = starts_at_seconds
    for index, (kind, draft) in enumerate(zip(kinds, drafts, strict=True)):
        if index % scenario.burst == 0:
            now += float(rng.exponential(mean_gap * scenario.burst))
        patience = None
        if rng.random() < kind.abort_ratio:
            patience = float(rng.uniform(0.1, 1.0)) * max(draft.output_tokens) * _pass_seconds(scenario, preset, drafts)
        plans.append(replace(draft, arrives_at_seconds=now, aborts_after_seconds=patience))
    return tuple(plans)


def _draw(kind: Kind, preset: EnginePreset, rng: np.random.Generator) -> RequestPlan:
    ratio = preset.length_ratio
    prefix = _whole_blocks(round(kind.shared_prefix_tokens * ratio))
    samples = int(rng.choice(kind.samples))
    return RequestPlan(
        arrives_at_seconds=0.0,
        prompt_tokens=prefix + kind.prompt.draw(rng, ratio),
        cached_tokens=prefix if rng.random() < kind.hit_ratio else 0,
        output_tokens=tuple(kind.output.draw(rng, ratio) for _ in range(samples)),
    )


def _seconds_per_request(scenario: Scenario, preset: EnginePreset, drafts: list[RequestPlan]) -> float:
    """By Little's law: the gap between arrivals that keeps the wanted number of sequences running."""
    passes = float(np.mean([sum(draft.output_tokens) for draft in drafts]))
    return passes * _pass_seconds(scenario, preset, drafts) / _wanted(scenario, preset)


def _pass_seconds(scenario: Scenario, preset: EnginePreset, drafts: list[RequestPlan]) -> float:
    """How long a pass over the wanted number of sequences takes, with its share of prompts to compute."""
    wanted = max(1.0, _wanted(scenario, preset))
    outputs = float(np.mean([sum(draft.output_tokens) for draft in drafts]))
    prompts = float(np.mean([draft.prompt_tokens - draft.cached_tokens for draft in drafts]))
    context = float(np.mean([draft.prompt_tokens for draft in drafts])) * wanted
    mean = BatchWork(*(np.asarray(each) for each in (wanted, wanted * (1 + prompts / outputs), context, context)))
    return float(preset.power.seconds_and_watts(mean)[0])


def _wanted(scenario: Scenario, preset: EnginePreset) -> float:
    return scenario.running_sequences * (preset.batch_ratio if scenario.running_sequences > 1 else 1.0)


def _whole_blocks(tokens: int) -> int:
    return tokens // _CACHE_BLOCK_TOKENS * _CACHE_BLOCK_TOKENS
