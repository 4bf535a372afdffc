"""`GET /v1/energy/live`: power, energy, queue, workers, tenants and the latest requests, as they are now.

For eyes that look every second or two: everything is in memory, and nobody is asked for it. Totals count since this
start of the server; the ledger has those from before.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE
from metering.ledger import ACCOUNTS
from scheduler.core import Scheduler
from scheduler.targets import LatencyTargets
from scheduler.tiers import TIERS
from server.access.energy_budget import BudgetState
from server.access.gate import Gate, TenantUsage
from server.access.tenants import ANONYMOUS
from server.live.tally import LiveTally, TenantTally
from server.live.token_rates import TokenRates
from server.metric_catalogue import OUTCOMES
from server.roster import Member, Roster

_MOST_TENANTS: Final = 100
_UNKNOWN: Final = TenantTally()


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What does not change while the server runs."""

    version: str
    policy: str
    targets: LatencyTargets
    started_unix_seconds: float


class LiveReport:
    """Everything that is shown live, from those that know it."""

    def __init__(
        self,
        facts: ServerFacts,
        tally: LiveTally,
        roster: Roster,
        scheduler: Scheduler,
        gate: Gate,
        rates: TokenRates,
        unix_clock: Callable[[], float],
    ) -> None:
        self._facts = facts
        self._tally = tally
        self._roster = roster
        self._scheduler = scheduler
        self._gate = gate
        self._rates = rates
        self._unix_clock = unix_clock

    def body(self) -> dict[str, Any]:
        """The state now; O(workers + tenants)."""
        facts, tally, members = self._facts, self._tally, list(self._roster.members())
        last_minute, since_start = tally.joules_per_output_token()
        return {
            "object": "energy.live",
            "at_unix_seconds": self._unix_clock(),
            "started_unix_seconds": facts.started_unix_seconds,
            "version": facts.version,
            "policy": facts.policy,
            "targets": asdict(facts.targets),
            **_energy(members),
            "requests": {outcome: tally.outcomes[outcome] for outcome in OUTCOMES},
            "tokens": {"prompt": tally.prompt_tokens, "output": tally.output_tokens},
            "joules_per_output_token": {"last_minute": last_minute, "since_start": since_start},
            "queue_requests": {**dict.fromkeys(TIERS, 0), **self._scheduler.snapshot().queued_requests_by_tier},
            "latency": asdict(tally.latency()),
            "workers": [self._worker(member) for member in members],
            "tenants": self._tenants(),
            "recent_requests": [asdict(request) for request in tally.recent.latest_first()],
        }

    def _worker(self, member: Member) -> dict[str, Any]:
        energy = member.energy
        totals = [microjoules for _, microjoules in energy.totals_since_start()]
        decoded = None if energy.work is None else energy.work.decode_tokens
        return {
            "worker_id": member.worker_id,
            "model": energy.model or next(iter(sorted(member.models)), None),
            "state": member.supervisor.state.value,
            "running_requests": energy.running_requests,
            "waiting_requests": energy.waiting_requests,
            "power_watts": energy.power_watts,
            "measured": energy.measured,
            "source": energy.source,
            "reason": _why_unknown(member),
            "energy_joules": _joules(totals),
            "output_tokens_per_second": self._rates.look(member.worker_id, decoded),
            "kv_cache_usage_ratio": None if energy.work is None else energy.work.kv_cache_usage_ratio,
            "restarts": member.supervisor.restarts,
        }

    def _tenants(self) -> list[dict[str, Any]]:
        """Those that asked for anything or hold a key, the costliest first."""
        known = [
            (usage, self._tally.tenants.get(usage.tenant, _UNKNOWN))
            for usage in self._gate.usage()
            # Whoever has no key is nobody where keys are needed.
            if usage.tenant != ANONYMOUS or not self._gate.has_keys or ANONYMOUS in self._tally.tenants
        ]
        known.sort(key=lambda one: (-(one[1].energy_joules or 0.0), -one[1].requests, one[0].tenant))
        return [_tenant(usage, tally) for usage, tally in known[:_MOST_TENANTS]]


def _energy(members: Iterable[Member]) -> dict[str, Any]:
    """Sums over the workers. What no worker tells is null, and `reason` says why a sum is not the whole."""
    watts: dict[str, float | None] = {}
    accounts: dict[str, list[int]] = {account: [] for account in ACCOUNTS}
    in_flight: list[int] = []
    reasons: list[str] = []
    metered = []
    for member in members:
        energy = member.energy
        for component, power in energy.power_watts.items():
            known = watts.get(component)
            watts[component] = known if power is None else (known or 0.0) + power
        totals = list(energy.totals_since_start())
        for (_, account), microjoules in totals:
            accounts.setdefault(account, []).append(microjoules)
        in_flight += energy.in_flight.values()
        if totals:
            metered.append(energy)
        # A parked worker is as it should be, and its energy is known.
        if not member.supervisor.is_parked and (reason := _why_unknown(member)) is not None:
            reasons.append(f"{member.worker_id}: {reason}")
    return {
        "power_watts": watts,
        "accounts_joules": {account: _joules(parts) for account, parts in accounts.items()},
        "in_flight_joules": _joules(in_flight),
        "measured": bool(metered) and all(energy.measured for energy in metered),
        "sources": sorted({energy.source for energy in metered if energy.source is not None}),
        "reason": "; ".join(reasons) or None,
    }


def _why_unknown(member: Member) -> str | None:
    """Why the power or the energy of a worker is not known, None where both are."""
    energy = member.energy
    if energy.reason is not None:
        return energy.reason if member.metered or not member.is_ready else "the worker does not measure energy"
    if not member.is_ready:
        return f"the worker is {member.supervisor.state.value}"
    if None in energy.power_watts.values():
        return "the meter has no power reading yet"
    return None


def _tenant(usage: TenantUsage, tally: TenantTally) -> dict[str, Any]:
    return {
        "tenant": usage.tenant,
        "energy_joules": tally.energy_joules,
        "requests": tally.requests,
        "output_tokens": tally.output_tokens,
        "running_requests": usage.running,
        "unknown_energy_requests": usage.unknown_energy_requests,
        "refused_requests": sum(usage.refusals.values()),
        "budgets": [_budget(budget) for budget in usage.budgets],
    }


def _joules(parts: list[int]) -> float | None:
    return sum(parts) / MICROJOULES_PER_JOULE if parts else None


def _budget(budget: BudgetState) -> dict[str, Any]:
    return {
        "period": budget.period.value,
        "budget_joules": budget.limit_microjoules / MICROJOULES_PER_JOULE,
        "remaining_joules": budget.remaining_microjoules / MICROJOULES_PER_JOULE,
        "renews_unix_seconds": budget.renews_unix_seconds,
    }
