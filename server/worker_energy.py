"""One worker's energy over all its lives: a restarted engine counts from zero, our totals do not."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Accounts = dict[tuple[str, str], int]


@dataclass(slots=True)
class WorkerEnergy:
    """Totals per (component, account) in integer microjoules, from the worker's `GET /energy` reports.

    What a killed engine spent after its last report is not known and not invented.
    """

    worker_id: str
    model: str = ""
    source: str | None = None
    measured: bool = False
    reason: str | None = "the worker has not reported yet"
    power_watts: dict[str, float | None] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    running_requests: int = 0
    waiting_requests: int = 0
    _instance_id: str | None = None
    _past: Accounts = field(default_factory=dict)
    _present: Accounts = field(default_factory=dict)
    _last_in_flight: dict[str, int] = field(default_factory=dict)
    _seen_aborts: Counter[tuple[str, int]] = field(default_factory=Counter)

    def take(self, report: dict[str, Any]) -> list[tuple[str, int]]:
        """Take in a report; returns (request id, microjoules) of aborted requests not seen in one before."""
        if report.get("instance_id") != self._instance_id:
            self._instance_id = report.get("instance_id")
            self._bury()
            self._seen_aborts = Counter()
        self.model = str(report.get("model") or self.model)
        self.source = report.get("source")
        self.measured = bool(report.get("measured"))
        self.reason = report.get("reason")
        self.power_watts = report.get("power_watts") or {}
        self.in_flight = {c: sum(p.values()) for c, p in (report.get("in_flight_microjoules") or {}).items()}
        self._last_in_flight = self.in_flight
        self.running_requests = int(report.get("running_requests") or 0)
        self.waiting_requests = int(report.get("waiting_requests") or 0)
        for component, accounts in (report.get("accounts_microjoules") or {}).items():
            for account, microjoules in accounts.items():
                self._present[component, account] = int(microjoules)
        aborts = report.get("recent_aborts")
        return self._new_aborts(aborts if aborts is not None else report.get("recent_requests") or [])

    def totals(self) -> Iterator[tuple[tuple[str, str], int]]:
        """((component, account), microjoules) over all lives of the worker."""
        for key in {**self._past, **self._present}:
            yield key, self._past.get(key, 0) + self._present.get(key, 0)

    def gone(self) -> None:
        """The worker stopped or is silent: it draws nothing we know of."""
        self.power_watts = {}
        self.in_flight = {}
        self.running_requests = self.waiting_requests = 0

    def _bury(self) -> None:
        """A life has ended for good: it counts on, and what was in flight in it has lost its owners."""
        self._past = dict(self.totals())
        for component, microjoules in self._last_in_flight.items():
            key = component, "unattributed"
            self._past[key] = self._past.get(key, 0) + microjoules
        self._present = {}
        self._last_in_flight = {}

    def _new_aborts(self, recent: list[dict[str, Any]]) -> list[tuple[str, int]]:
        # Counted, not looked up by id: callers may use one id again and again.
        aborted = Counter(
            (str(request["request_id"]), int(request["prefill_microjoules"]) + int(request["decode_microjoules"]))
            for request in recent
            if request.get("outcome") == "aborted"
        )
        fresh = list((aborted - self._seen_aborts).elements())
        self._seen_aborts = aborted
        return fresh
