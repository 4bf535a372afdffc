"""Continuous batching as vLLM does it, in virtual time: token budget, chunked prefill, prefix hits, preemption.

First come, first served. Running sequences are scheduled before waiting ones, in the order they came; a prompt is
computed in chunks of what is left of the budget. When there is no room for the context, the latest sequence to have
come is preempted: it waits at the head of the queue and is computed anew.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from bench.attribution.power_model import BatchWork
from bench.attribution.presets import EnginePreset
from bench.attribution.trace import BatchMembers, CutOff, Trace, TracedStep
from bench.attribution.workload import RequestPlan
from metering.step import EndedSequence, EngineStep


@dataclass(eq=False, slots=True)
class _Sequence:
    request: int
    prompt_tokens: int
    cached_tokens: int
    output_limit: int
    in_cache: int = 0  # tokens whose keys and values the engine holds
    output_tokens: int = 0
    first_token_at_seconds: float = 0.0
    last_token_at_seconds: float = 0.0
    preemptions: int = 0
    unreported_preemptions: int = 0

    @property
    def to_compute(self) -> int:
        return self.prompt_tokens + self.output_tokens - self.in_cache

    @property
    def is_done(self) -> bool:
        return self.output_tokens == self.output_limit

    def ended(self) -> EndedSequence:
        return EndedSequence(
            computed_prompt_tokens=self.prompt_tokens - self.cached_tokens,
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            decode_seconds=self.last_token_at_seconds - self.first_token_at_seconds,
            prefill_done=self.output_tokens > 0,
            preemptions=self.preemptions,
        )


@dataclass(slots=True)
class _Outcome:
    """What a step's output did to the sequences."""

    first: list[_Sequence] = field(default_factory=list)
    ended: list[_Sequence] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    preemptions: int = 0


class SimulatedEngine:
    """Runs planned requests to their ends. `context_capacity_tokens` bounds the context of all running sequences."""

    def __init__(self, preset: EnginePreset, requests: tuple[RequestPlan, ...], context_capacity_tokens: int) -> None:
        self._preset = preset
        self._requests = requests
        self._capacity = context_capacity_tokens
        self._now = 0.0
        self._arriving = deque(range(len(requests)))
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._live: dict[int, list[_Sequence]] = {}  # sequences of requests in the engine that have not ended
        self._patience: dict[int, float] = {}  # when the callers of such requests will leave
        self._ended_at = [0.0] * len(requests)
        self._aborted: set[int] = set()
        self._preemptions = 0

    def run(self) -> Trace:
        """Everything up to the last request's end."""
        steps: list[TracedStep] = []
        while self._arriving or self._waiting or self._running:
            if not self._waiting and not self._running:
                self._now = self._next_arrival()
            self._admit()
            steps.append(self._step())
        return Trace(
            self._requests,
            tuple(steps),
            tuple(self._ended_at),
            frozenset(self._aborted),
            self._preset.power.idle_watts,
            self._preemptions,
        )

    # -- callers -------------------------------------------------------------------------------------------------

    def _next_arrival(self) -> float:
        return self._requests[self._arriving[0]].arrives_at_seconds if self._arriving else float("inf")

    def _admit(self) -> None:
        while self._arriving and self._next_arrival() <= self._now:
            index = self._arriving.popleft()
            plan = self._requests[index]
            sequences = [
                _Sequence(index, plan.prompt_tokens, plan.cached_tokens_of(sample), limit)
                for sample, limit in enumerate(plan.output_tokens)
            ]
            self._live[index] = sequences
            self._waiting.extend(sequences)
            if plan.aborts_after_seconds is not None:
                self._patience[index] = plan.arrives_at_seconds + plan.aborts_after_seconds

    def _leave(self) -> tuple[CutOff, ...]:
        """Callers that have lost patience by now are gone; what the step does for them it does for nothing."""
        leaving = sorted((at, index) for index, at in self._patience.items() if at <= self._now)
        cut_off = []
        for at, index in leaving:
            del self._patience[index]
            sequences = self._live.pop(index)
            cut_off.append(CutOff(index, at, tuple(one.ended() for one in sequences)))
            self._running = [one for one in self._running if one.request != index]
            self._waiting = deque(one for one in self._waiting if one.request != index)
            self._aborted.add(index)
            self._ended_at[index] = at
        return tuple(cut_off)

    # -- steps ---------------------------------------------------------------------------------------------------

    def _step(self) -> TracedStep:
        started_at = self._now
        scheduled = self._schedule()
        members = _members(scheduled)
        count = len(scheduled)
        seconds, watts = self._preset.power.seconds_and_watts(
            BatchWork(
                np.asarray(float(count)),
                members.tokens.sum(),
                members.attended_pairs.sum(),
                members.context_tokens.sum(),
            )
        )
        self._now += float(seconds)
        prompts = [(one, n) for (one, n), prefill in zip(scheduled, members.in_prefill, strict=True) if prefill]
        decodes = [(one, n) for (one, n), prefill in zip(scheduled, members.in_prefill, strict=True) if not prefill]
        cut_off = self._leave()
        outcome = self._give_tokens(scheduled)
        answered = self._answer(outcome.ended)
        self._admit()
        report = EngineStep(
            ended_at_seconds=self._now,
            duration_seconds=float(seconds),
            prefill_tokens=sum(n for _, n in prompts),
            prefill_sequences=len(prompts),
            decode_sequences=len(decodes),
            decode_tokens=len(outcome.gaps),
            recomputed_tokens=sum(n - 1 for _, n in decodes),
            preemptions=outcome.preemptions,
            first_tokens=len(outcome.first),
            first_token_prompt_tokens=sum(one.prompt_tokens - one.cached_tokens for one in outcome.first),
            first_token_context_tokens=sum(one.prompt_tokens for one in outcome.first),
            inter_token_seconds=min(outcome.gaps) if outcome.gaps else None,
            unfinished_sequences=len(self._running) + len(self._waiting),
        )
        ended = tuple((one.request, one.ended()) for one in outcome.ended)
        return TracedStep(started_at, float(watts), members, report, cut_off, ended, answered)

    def _schedule(self) -> list[tuple[_Sequence, int]]:
        """What runs in the next step, and how many tokens of each sequence."""
        budget = self._preset.token_budget
        scheduled: list[tuple[_Sequence, int]] = []
        preempted = False
        position = 0
        while position < len(self._running) and budget > 0:
            sequence = self._running[position]
            tokens = min(budget, sequence.to_compute)
            while self._room() < sum(n for _, n in scheduled) + tokens and len(self._running) > 1:
                preempted = True
                if self._preempt() is sequence:
                    break
            if position < len(self._running):
                scheduled.append((sequence, tokens))
                budget -= tokens
            position += 1
        while self._waiting and budget > 0 and not preempted and len(self._running) < self._preset.max_sequences:
            sequence = self._waiting[0]
            tokens = min(budget, sequence.to_compute - (0 if sequence.in_cache else sequence.cached_tokens))
            if self._running and self._room() < sum(n for _, n in scheduled) + sequence.cached_tokens + tokens:
                break
            self._waiting.popleft()
            sequence.in_cache = sequence.cached_tokens
            self._running.append(sequence)
            scheduled.append((sequence, tokens))
            budget -= tokens
        return scheduled

    def _room(self) -> int:
        return self._capacity - sum(one.in_cache for one in self._running)

    def _preempt(self) -> _Sequence:
        sequence = self._running.pop()
        sequence.in_cache = 0
        sequence.preemptions += 1
        sequence.unreported_preemptions += 1
        self._preemptions += 1
        self._waiting.appendleft(sequence)
        return sequence

    def _give_tokens(self, scheduled: list[tuple[_Sequence, int]]) -> _Outcome:
        outcome = _Outcome()
        for sequence, tokens in scheduled:
            sequence.in_cache += tokens
            if sequence.to_compute or sequence.request in self._aborted:
                continue
            if sequence.output_tokens:
                outcome.gaps.append(self._now - sequence.last_token_at_seconds)
            else:
                outcome.first.append(sequence)
                sequence.first_token_at_seconds = self._now
            sequence.output_tokens += 1
            sequence.last_token_at_seconds = self._now
            outcome.preemptions += sequence.unreported_preemptions
            sequence.unreported_preemptions = 0
            if sequence.is_done:
                outcome.ended.append(sequence)
        self._running = [one for one in self._running if not one.is_done]
        return outcome

    def _answer(self, ended: list[_Sequence]) -> tuple[int, ...]:
        answered = []
        for sequence in ended:
            live = self._live[sequence.request]
            live.remove(sequence)
            if not live:
                del self._live[sequence.request]
                self._patience.pop(sequence.request, None)
                self._ended_at[sequence.request] = self._now
                answered.append(sequence.request)
        return tuple(answered)


def _members(scheduled: list[tuple[_Sequence, int]]) -> BatchMembers:
    tokens = np.array([n for _, n in scheduled], dtype=np.float64)
    before = np.array([one.in_cache for one, _ in scheduled], dtype=np.float64)
    return BatchMembers(
        requests=tuple(one.request for one, _ in scheduled),
        in_prefill=tuple(one.output_tokens == 0 for one, _ in scheduled),
        tokens=tokens,
        attended_pairs=tokens * before + tokens * (tokens + 1) / 2,
        context_tokens=before + tokens,
    )
