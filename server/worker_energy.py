"""One worker's energy over all its lives: a restarted engine counts from zero, our totals do not."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from metering.counter import MICROJOULES_PER_JOULE
from scheduler.events import WorkReport
from server.ended_requests import EndedRequests
from server.energy_report import EndedRequest, EnergyReport, Work

Accounts = dict[tuple[str, str], int]

_RECENT_LISTS: Final = ("recent_requests", "recent_aborts")
_NOTHING_RECENT: Final = MappingProxyType({name: EndedRequests() for name in _RECENT_LISTS})


@dataclass(frozen=True, slots=True)
class WorkDone:
    """What an engine has done: forward passes, the time they took, and the tokens they decoded and prefilled."""

    steps: int
    step_seconds: float
    decode_tokens: int
    prefill_tokens: int

    def __add__(self, other: "WorkDone") -> "WorkDone":
        return WorkDone(
            self.steps + other.steps,
            self.step_seconds + other.step_seconds,
            self.decode_tokens + other.decode_tokens,
            self.prefill_tokens + other.prefill_tokens,
        )


@dataclass(slots=True)
class WorkerEnergy:
    """Totals per (component, account) in integer microjoules, from the worker's `GET /energy` reports.

    What a killed engine spent after its last report is not known and not invented. `is_ours` where this server starts
    the engine: one that is attached has spent energy before, for others.
    """

    worker_id: str
    is_ours: bool = True
    model: str = ""
    source: str | None = None
    measured: bool = False
    reason: str | None = "the worker has not reported yet"
    power_watts: dict[str, float | None] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    counter_faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    running_requests: int = 0
    waiting_requests: int = 0
    work: WorkReport | None = None
    _past_work: WorkDone | None = None
    _present_work: WorkDone | None = None
    _instance_id: str | None = None
    _past: Accounts = field(default_factory=dict)
    _present: Accounts = field(default_factory=dict)
    _before_us: Accounts | None = None
    _last_in_flight: dict[str, int] = field(default_factory=dict)
    _faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    _recent: Mapping[str, EndedRequests] = field(default_factory=lambda: _NOTHING_RECENT)

    @property
    def has_reported(self) -> bool:
        """Whether there was a report since this server's start."""
        return self._before_us is not None

    def take(self, body: dict[str, Any]) -> list[tuple[str, int]]:
        """Take in a report; returns (request id, microjoules) of requests that have ended since the one before.

        Raises:
            ValueError: it is not shaped like a report; nothing of it was taken.
        """
        report = EnergyReport.model_validate(body)
        is_new_life = report.instance_id != self._instance_id
        recent, ended = _newly_ended(body, _NOTHING_RECENT if is_new_life else self._recent)
        if is_new_life:
            self._instance_id = report.instance_id
            self._bury()
            self._faults = Counter()
        self.model = report.model or self.model
        self.source = report.source
        self.measured = report.measured
        self.reason = report.reason
        self.power_watts = report.power_watts
        self.in_flight = {component: sum(phases.values()) for component, phases in report.in_flight_microjoules.items()}
        self._last_in_flight = self.in_flight
        self._take_faults(report.counter_faults)
        self.running_requests = report.running_requests
        self.waiting_requests = report.waiting_requests
        for component, accounts in report.accounts_microjoules.items():
            for account, microjoules in accounts.items():
                self._present[component, account] = microjoules
        if self._before_us is None:
            self._before_us = {} if self.is_ours else dict(self._present)
        self.work = None if report.work is None else self._work_report(report.work)
        if (work := report.work) is not None:
            self._present_work = WorkDone(
                work.steps_total, work.step_seconds_total, work.decode_tokens_total, work.prefill_tokens_total
            )
        self._recent = recent
        return [(one.request_id, one.prefill_microjoules + one.decode_microjoules) for one in ended]

    def totals(self) -> Iterator[tuple[tuple[str, str], int]]:
        """((component, account), microjoules) over all lives of the worker."""
        for key in {**self._past, **self._present}:
            yield key, self._past.get(key, 0) + self._present.get(key, 0)

    def totals_since_start(self) -> Iterator[tuple[tuple[str, str], int]]:
        """The same without what an attached engine had spent when it first reported to this server."""
        before = self._before_us or {}
        for key, microjoules in self.totals():
            yield key, microjoules - before.get(key, 0)

    def work_done(self) -> WorkDone | None:
        """Over all lives of the worker; None where it has never told."""
        past, present = self._past_work, self._present_work
        return present if past is None else past if present is None else past + present

    def gone(self) -> None:
        """The worker stopped or is silent: it draws nothing we know of."""
        self.power_watts = {}
        self.in_flight = {}
        self.running_requests = self.waiting_requests = 0
        self.work = None

    def _work_report(self, work: Work) -> WorkReport:
        """What it told of its work, beside all the energy of this life."""
        joules = loading_joules = None
        if self.source is not None:
            accounts = self._present.items()
            loading = sum(microjoules for (_, account), microjoules in accounts if account == "loading")
            microjoules = sum(self._present.values()) + sum(self.in_flight.values())
            joules, loading_joules = microjoules / MICROJOULES_PER_JOULE, loading / MICROJOULES_PER_JOULE
        return WorkReport(
            steps=work.steps_total,
            step_seconds=work.step_seconds_total,
            decode_tokens=work.decode_tokens_total,
            prefill_tokens=work.prefill_tokens_total,
            energy_joules=joules,
            loading_joules=loading_joules,
            loading_seconds=work.loading_seconds,
            kv_cache_usage_ratio=work.kv_cache_usage_ratio,
        )

    def _take_faults(self, told: dict[str, dict[str, int]]) -> None:
        """Faults of all lives of the worker, by counter and kind."""
        faults = Counter({(counter, fault): n for counter, kinds in told.items() for fault, n in kinds.items()})
        for key in faults:  # those that never happened too: a series that starts at 1 hides its first rise
            self.counter_faults[key] += max(0, faults[key] - self._faults[key])
        self._faults = faults

    def _bury(self) -> None:
        """A life has ended for good: it counts on, and what was in flight in it has lost its owners."""
        self._past = dict(self.totals())
        for component, microjoules in self._last_in_flight.items():
            key = component, "unattributed"
            self._past[key] = self._past.get(key, 0) + microjoules
        self._present = {}
        self._last_in_flight = {}
        self._past_work, self._present_work = self.work_done(), None


def _newly_ended(
    body: Mapping[str, Any], before: Mapping[str, EndedRequests]
) -> tuple[dict[str, EndedRequests], list[EndedRequest]]:
    """The lists as they are told now, and what is new in them: those cut off first."""
    now = {name: EndedRequests(body.get(name, [])) for name in _RECENT_LISTS}
    ended, aborts = (before[name].fresh_of(now[name].told) for name in _RECENT_LISTS)
    # Those cut off have a longer list of their own, where the worker tells one.
    aborted = aborts if now["recent_aborts"].told else [one for one in ended if one.outcome == "aborted"]
    return now, [*aborted, *(one for one in ended if one.outcome != "aborted")]
