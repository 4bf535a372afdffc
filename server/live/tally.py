"""Sums over the requests of this start of the server, and the latest of them: one sink of finished exchanges."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scheduler.targets import LatencyTargets
from scheduler.tiers import FLEX
from server.exchange_record import ExchangeRecord
from server.kept_targets import kept_targets
from server.live.recent import RecentRequests

LATENCY_WINDOW_SECONDS: Final = 300.0
RATE_WINDOW_SECONDS: Final = 60.0
# Enough for a 99th percentile that means something, and sorted in a tenth of a millisecond.
_MOST_LATENCIES: Final = 1000
_MOST_COSTS: Final = 10_000


@dataclass(slots=True)
class TenantTally:
    """One tenant's requests. `energy_joules` is None until the energy of one of them is known."""

    requests: int = 0
    output_tokens: int = 0
    energy_joules: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Of streams, those of tier `flex` aside: they agreed to wait. None where there were none.

    Times are of those answered to their end. The attainment is of all the `requests` that can be held against a target,
    those that failed while they waited too, as Prometheus is told.
    """

    ttft_p50_seconds: float | None
    ttft_p99_seconds: float | None
    tpot_p50_seconds: float | None
    tpot_p99_seconds: float | None
    slo_attainment_ratio: float | None
    requests: int
    window_seconds: float


@dataclass(frozen=True, slots=True)
class _Times:
    ended_at_seconds: float
    ttft_seconds: float | None
    tpot_seconds: float | None
    has_kept: bool | None


class LiveTally:
    """Counts finished exchanges. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float], targets: LatencyTargets | None = None) -> None:
        self._clock = clock
        self._targets = targets or LatencyTargets()
        self.recent = RecentRequests()
        self.outcomes: Counter[str] = Counter()
        self.prompt_tokens = 0
        self.output_tokens = 0
        self.tenants: dict[str, TenantTally] = {}
        self._times: deque[_Times] = deque(maxlen=_MOST_LATENCIES)
        self._costs: deque[tuple[float, float, int]] = deque(maxlen=_MOST_COSTS)
        self._costed_joules = 0.0
        self._costed_tokens = 0

    def count(self, record: ExchangeRecord) -> None:
        """Take in one finished exchange."""
        now_seconds = self._clock()
        self.outcomes[record.outcome] += 1
        self.recent.add(record)
        tenant = self._tenant(record.tenant)
        tenant.requests += 1
        self.prompt_tokens += record.prompt_tokens or 0
        output_tokens = record.output_tokens or 0
        self.output_tokens += output_tokens
        tenant.output_tokens += output_tokens
        joules = record.energy_joules
        if joules is not None:
            tenant.energy_joules = (tenant.energy_joules or 0.0) + joules
            if output_tokens:
                self._costs.append((now_seconds, joules, output_tokens))
                self._costed_joules += joules
                self._costed_tokens += output_tokens
        times = _times(now_seconds, record, self._targets)
        if times is not None:
            self._times.append(times)

    def charge(self, record: ExchangeRecord, energy_joules: float) -> None:
        """A worker tells what a request used whose answer did not tell."""
        tenant = self._tenant(record.tenant)
        tenant.energy_joules = (tenant.energy_joules or 0.0) + energy_joules
        self.recent.charge(record, energy_joules)

    def joules_per_output_token(self) -> tuple[float | None, float | None]:
        """Over the last minute and over all, of requests whose energy and tokens are both known."""
        oldest = self._clock() - RATE_WINDOW_SECONDS
        while self._costs and self._costs[0][0] < oldest:
            self._costs.popleft()
        joules, tokens = sum(cost[1] for cost in self._costs), sum(cost[2] for cost in self._costs)
        return _ratio(joules, tokens), _ratio(self._costed_joules, self._costed_tokens)

    def latency(self) -> Latency:
        """How the last streams fared against the targets."""
        oldest = self._clock() - LATENCY_WINDOW_SECONDS
        while self._times and self._times[0].ended_at_seconds < oldest:
            self._times.popleft()
        first = sorted(times.ttft_seconds for times in self._times if times.ttft_seconds is not None)
        rest = sorted(times.tpot_seconds for times in self._times if times.tpot_seconds is not None)
        kept = [times.has_kept for times in self._times if times.has_kept is not None]
        return Latency(
            _quantile(first, 0.5),
            _quantile(first, 0.99),
            _quantile(rest, 0.5),
            _quantile(rest, 0.99),
            _ratio(sum(kept), len(kept)),
            len(kept),
            LATENCY_WINDOW_SECONDS,
        )

    def _tenant(self, name: str) -> TenantTally:
        return self.tenants.setdefault(name, TenantTally())  # as many as hold a key: callers cannot make up others


def _times(now_seconds: float, record: ExchangeRecord, targets: LatencyTargets) -> _Times | None:
    """What there is to say of a request's latency; None where that is nothing."""
    verdicts = [is_met for _, is_met in kept_targets(record, targets)]
    has_kept = all(verdicts) if verdicts else None
    ttft_seconds = record.first_byte_seconds
    if record.outcome != "completed" or ttft_seconds is None or record.tier == FLEX:
        return None if has_kept is None else _Times(now_seconds, None, None, has_kept)
    more_tokens = (record.output_tokens or 0) - 1
    tpot_seconds = (record.total_seconds - ttft_seconds) / more_tokens if more_tokens > 0 else None
    return _Times(now_seconds, ttft_seconds, tpot_seconds, has_kept)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest rank: a time that was really seen."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
