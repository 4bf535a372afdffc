"""`GET /v1/scheduler`: what the scheduler holds, what it knows of the workers, and what it did and why.

Whatever `SchedulerSnapshot` has appears here by itself, so that this file need not know what a policy learns.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from scheduler.core import Scheduler
from scheduler.limits import SchedulerLimits
from scheduler.targets import LatencyTargets
from scheduler.tiers import TIERS
from server.decision_log import DecisionLog
from server.roster import Roster


@dataclass(frozen=True, slots=True)
class SchedulerReport:
    """The scheduler with what it was told to keep to."""

    policy: str
    targets: LatencyTargets
    limits: SchedulerLimits
    scheduler: Scheduler
    roster: Roster
    log: DecisionLog

    def body(self) -> dict[str, Any]:
        """The state now; O(queued requests + workers)."""
        snapshot: dict[str, Any] = to_json_value(self.scheduler.snapshot())
        queued = snapshot.get("queued_requests_by_tier", {})
        return {
            "object": "scheduler",
            "policy": self.policy,
            "targets": to_json_value(self.targets),
            "limits": to_json_value(self.limits),
            **snapshot,
            "queued_requests_by_tier": dict.fromkeys(TIERS, 0) | queued,
            "workers": self._workers(snapshot.get("workers", [])),
            "dispatches_by_reason": self.log.dispatches_by_reason(),
            "refusals_by_cause": self.log.refusals_by_cause(),
            "decisions": to_json_value(self.log.decisions()),
            "refusals": to_json_value(self.log.refusals()),
        }

    def _workers(self, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every worker, those included that serve nothing now; what the scheduler knows stands beside its state."""
        by_id = {worker["worker_id"]: worker for worker in known}
        return [
            {
                "worker_id": member.worker_id,
                "restarts": member.supervisor.restarts,
                "power_watts": to_json_value(member.energy.power_watts),
                **by_id.get(member.worker_id, {}),
                "state": member.supervisor.state.value,
            }
            for member in self.roster.members()
        ]


def to_json_value(value: object) -> Any:  # noqa: ANN401  # JSON has no narrower type
    """Plain data as JSON can hold it: what is not finite becomes null, a set a sorted list, a compound key `a/b`."""
    if isinstance(value, Mapping):
        return {_key(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(to_json_value, value), key=str)
    if isinstance(value, list | tuple):
        return [to_json_value(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_value(getattr(value, field.name)) for field in fields(value)}
    return _scalar(value)


def _scalar(value: object) -> str | float | None:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _key(key: object) -> str:
    if isinstance(key, tuple):
        return "/".join(map(_key, key))
    return str(key.value if isinstance(key, Enum) else key)
