"""What became of every request of a simulation."""

from dataclasses import dataclass

from bench.simulation.engine import Sequence
from bench.simulation.workload import PlannedRequest
from scheduler.targets import LatencyTargets
from scheduler.tiers import FLEX

SERVED = "served"
TOO_LONG = "too_long"


@dataclass(eq=False, slots=True)
class RequestLog:
    """One request. `outcome` is None until it has ended: `served`, `too_long`, or the cause of its refusal."""

    planned: PlannedRequest
    sequence: Sequence
    outcome: str | None = None
    dispatched_at_seconds: float | None = None

    @property
    def is_flex(self) -> bool:
        return self.planned.tier == FLEX

    @property
    def ttft_seconds(self) -> float | None:
        """From the arrival at the front end to the first token, queueing included; None if it got none."""
        first = self.sequence.first_token_at_seconds
        return None if first is None else first - self.planned.arrives_at_seconds

    @property
    def tpot_seconds(self) -> float | None:
        """The mean over the tokens after the first; None if there were none."""
        first, last = self.sequence.first_token_at_seconds, self.sequence.ended_at_seconds
        later_tokens = self.sequence.output_tokens - 1
        return None if first is None or last is None or not later_tokens else (last - first) / later_tokens

    @property
    def wait_seconds(self) -> float | None:
        """From arrival to dispatch; None if it was never dispatched."""
        at = self.dispatched_at_seconds
        return None if at is None else at - self.planned.arrives_at_seconds

    def meets_ttft(self, targets: LatencyTargets) -> bool:
        """False for a request that got no token."""
        ttft_seconds = self.ttft_seconds
        return ttft_seconds is not None and ttft_seconds <= targets.ttft_seconds

    def meets_tpot(self, targets: LatencyTargets) -> bool:
        """False for a request that was not served; true for one that had a single token."""
        tpot_seconds = self.tpot_seconds
        return self.outcome == SERVED and (tpot_seconds is None or tpot_seconds <= targets.tpot_seconds)

    def meets(self, targets: LatencyTargets) -> bool:
        return self.meets_ttft(targets) and self.meets_tpot(targets)
