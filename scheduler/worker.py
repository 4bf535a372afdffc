"""One generation of a worker, as the scheduler counts it.

A worker that is lost or parked and comes back under its name is a new `Worker`. A request keeps the object it was
placed on, so whatever is reported late about the old generation changes only a count that nobody reads any more.
"""

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import Final

from scheduler.events import WorkerReady, WorkerReported
from scheduler.worker_model import WorkerModel

# The share of the time spent on prompts is a mean over about as long as an answer takes.
_PREFILL_MEMORY_SECONDS: Final = 5.0
# The targets are of the slowest of a hundred.
_DEVIATIONS: Final = 2.0


@dataclass(slots=True, eq=False)
class Worker:
    """A ready worker and the places taken on it. Policies read it, only the core changes it.

    `generation` is 1 for the first life under this name. `ready_number` is unique to each `WorkerReady` of any
    worker. `running_requests` counts what was dispatched here and not reported gone. `idle_since_seconds` is None while
    something runs. `is_leaving` is true from the command to park it on: it gets nothing more.
    """

    worker_id: str
    generation: int
    ready_number: int
    models: frozenset[str]
    max_running_requests: int
    model: WorkerModel = field(default_factory=lambda: WorkerModel("unknown"))
    can_park: bool = False
    running_requests: int = 0
    reported: WorkerReported | None = None
    idle_since_seconds: float | None = None
    is_leaving: bool = False
    prefilled_at_seconds: float = 0.0
    """When the prompts it was sent so far will have been computed, as predicted."""
    _prefill_ratio: float = 0.0
    _prefill_variance: float = 0.0
    _prefill_seen_at_seconds: float = 0.0

    @property
    def has_room(self) -> bool:
        return self.running_requests < self.max_running_requests and not self.is_leaving

    @property
    def taken_ratio(self) -> float:
        """The share of its places that is taken."""
        return self.running_requests / self.max_running_requests

    def refresh(self, ready: WorkerReady, ready_number: int) -> None:
        """Take over what a worker that is still here announced again; the places taken stay taken."""
        self.ready_number = ready_number
        self.models = ready.models
        self.max_running_requests = ready.max_running_requests
        self.can_park = ready.can_park

    def expect_prefill(self, prompt_tokens: float, now_seconds: float) -> float:
        """A prompt was sent here; the seconds that computing it is predicted to take."""
        model = self.model
        seconds = model.prefill_seconds(prompt_tokens, self.running_requests)
        self.prefilled_at_seconds = max(self.prefilled_at_seconds, now_seconds) + seconds
        share = prompt_tokens * model.prefill_token_seconds / _PREFILL_MEMORY_SECONDS
        faded = exp((self._prefill_seen_at_seconds - now_seconds) / _PREFILL_MEMORY_SECONDS)
        self._prefill_ratio = self._prefill_ratio * faded + share
        # Prompts that come by chance (Poisson): what n of them add up to varies by the sum of their squares.
        self._prefill_variance = self._prefill_variance * faded * faded + share * share
        self._prefill_seen_at_seconds = now_seconds
        return seconds

    def skip_prefill(self, seconds: float, now_seconds: float) -> None:
        """A request has left whose prompt was predicted to take so much longer: nobody computes that now."""
        if self.running_requests == 0:
            self.prefilled_at_seconds = now_seconds
        elif seconds > 0:
            self.prefilled_at_seconds -= seconds

    def prefill_ratio(self, now_seconds: float) -> float:
        """The share of its time that goes to prompts just now; above 1 where they come faster than it computes them."""
        return self._prefill_ratio * exp((self._prefill_seen_at_seconds - now_seconds) / _PREFILL_MEMORY_SECONDS)

    def backlog_seconds(self, now_seconds: float) -> float:
        """How long the prompts it was sent already will keep it, as predicted."""
        return max(0.0, self.prefilled_at_seconds - now_seconds)

    def first_token_seconds(self, prompt_tokens: float, now_seconds: float) -> float:
        """From now until a prompt sent here now has its first token, as predicted."""
        model, running = self.model, self.running_requests
        prefill_seconds = model.prefill_seconds(prompt_tokens, running)
        return self.backlog_seconds(now_seconds) + prefill_seconds + model.steps.at(running)

    def token_seconds(self, now_seconds: float) -> float:
        """From token to token with one more request running, where more prompts than usual come meanwhile.

        Steps that compute prompts stretch it by their share of the time, taken two standard deviations high.
        """
        faded = exp((self._prefill_seen_at_seconds - now_seconds) / _PREFILL_MEMORY_SECONDS)
        prefill_ratio = faded * (self._prefill_ratio + _DEVIATIONS * sqrt(self._prefill_variance))
        return self.model.steps.at(self.running_requests + 1) / max(0.05, 1.0 - prefill_ratio)
