"""How much work arrives for one model, as a forecast of the next minute."""

from math import exp
from typing import Final

from scheduler.targets import LatencyTargets
from scheduler.worker import Worker

# Two memories: the short one sees a rise in time to start a worker, the long one keeps a lull from parking it.
_MEMORIES_SECONDS: Final = (15.0, 60.0)
# With half of the time spent on prompts, a step may take half of the target.
_DECODE_RATIO: Final = 0.45


class _Rate:
    """Tokens a second over an exponentially fading memory."""

    __slots__ = ("_began_at_seconds", "_mass", "_memory_seconds", "_seen_at_seconds")

    def __init__(self, memory_seconds: float) -> None:
        self._memory_seconds = memory_seconds
        self._mass = 0.0
        self._seen_at_seconds = 0.0
        self._began_at_seconds: float | None = None

    def add(self, tokens: float, now_seconds: float) -> None:
        if self._began_at_seconds is None:
            self._began_at_seconds = self._seen_at_seconds = now_seconds
        self._mass = self._mass * exp((self._seen_at_seconds - now_seconds) / self._memory_seconds) + tokens
        self._seen_at_seconds = now_seconds

    def at(self, now_seconds: float) -> float:
        if self._began_at_seconds is None:
            return 0.0
        faded = self._mass * exp((self._seen_at_seconds - now_seconds) / self._memory_seconds)
        # Of a memory that is not full yet only the part that is counts.
        seen_seconds = max(1.0, now_seconds - self._began_at_seconds)
        return faded / (self._memory_seconds * (1 - exp(-seen_seconds / self._memory_seconds)))


class Demand:
    """Prompt and output tokens a second that must be served soon; flex requests count once they are due."""

    def __init__(self) -> None:
        self._prompts = tuple(_Rate(memory) for memory in _MEMORIES_SECONDS)
        self._outputs = tuple(_Rate(memory) for memory in _MEMORIES_SECONDS)
        self._patient_prompts = _Rate(_MEMORIES_SECONDS[-1])
        self._patient_outputs = _Rate(_MEMORIES_SECONDS[-1])

    def add(self, prompt_tokens: float, output_tokens: float, now_seconds: float) -> None:
        """A request that cannot wait has come."""
        for rate in self._prompts:
            rate.add(prompt_tokens, now_seconds)
        for rate in self._outputs:
            rate.add(output_tokens, now_seconds)

    def add_patient(self, prompt_tokens: float, output_tokens: float, now_seconds: float) -> None:
        """A request that can wait has come."""
        self._patient_prompts.add(prompt_tokens, now_seconds)
        self._patient_outputs.add(output_tokens, now_seconds)

    def workers(self, worker: Worker, targets: LatencyTargets, pressure_ratio: float, now_seconds: float) -> float:
        """How many workers like this one all of it would keep busy all the time, within the targets.

        Of what can wait only `pressure_ratio` counts, how full the queue is: while there is room to wait in, it makes
        do with what the others leave.
        """
        model = worker.model
        bound_seconds = _DECODE_RATIO * targets.tpot_seconds
        batch = max(1, model.steps.largest_batch(bound_seconds, worker.max_running_requests))
        prompts = max(rate.at(now_seconds) for rate in self._prompts)
        outputs = max(rate.at(now_seconds) for rate in self._outputs)
        prompts += pressure_ratio * self._patient_prompts.at(now_seconds)
        outputs += pressure_ratio * self._patient_outputs.at(now_seconds)
        return prompts * model.prefill_token_seconds + outputs * model.steps.at(batch) / batch
