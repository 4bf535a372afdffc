"""The last few requests and what each cost: numbers and ids, so that nobody's text is ever kept here."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final

from server.exchange_record import ExchangeRecord

KEPT: Final = 50


@dataclass(frozen=True, slots=True)
class RecentRequest:
    """One request that has ended. What is None is not known or does not apply.

    `reason` is why its energy is not known. `measured` says whether the energy was read from hardware.
    """

    request_id: str
    ended_unix_seconds: float
    tenant: str
    model: str
    tier: str
    outcome: str
    prompt_tokens: int | None
    output_tokens: int | None
    energy_joules: float | None
    measured: bool | None
    source: str | None
    reason: str | None
    duration_seconds: float
    worker_id: str | None


class RecentRequests:
    """A ring of the last `KEPT`. A worker may tell only after its end what a request used, or even before we saw it."""

    def __init__(self) -> None:
        self._requests: OrderedDict[str, RecentRequest] = OrderedDict()
        self._told_before: OrderedDict[str, float] = OrderedDict()

    def add(self, record: ExchangeRecord) -> None:
        """Take in a request that is over, in whatever way."""
        self._requests[record.row_id] = _recent(record)
        if len(self._requests) > KEPT:
            self._requests.popitem(last=False)
        told_joules = self._told_before.pop(record.row_id, None)
        if told_joules is not None:
            self.charge(record, told_joules)

    def charge(self, record: ExchangeRecord, energy_joules: float) -> None:
        """Its worker tells what it used, beside what its answer has told: of each attempt by itself."""
        request = self._requests.get(record.row_id)
        if request is None:
            self._told_before[record.row_id] = self._told_before.pop(record.row_id, 0.0) + energy_joules
            if len(self._told_before) > KEPT:
                self._told_before.popitem(last=False)
        else:
            total_joules = (request.energy_joules or 0.0) + energy_joules
            self._requests[record.row_id] = replace(request, energy_joules=total_joules, reason=None)

    def latest_first(self) -> list[RecentRequest]:
        return list(reversed(self._requests.values()))


def _recent(record: ExchangeRecord) -> RecentRequest:
    return RecentRequest(
        request_id=record.request_id,
        ended_unix_seconds=record.arrived_unix_seconds + record.total_seconds,
        tenant=record.tenant,
        model=record.model,
        tier=record.tier,
        outcome=record.outcome,
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        energy_joules=record.energy_joules,
        measured=record.cost.is_measured,
        source=record.energy_source,
        reason=None if record.energy_joules is not None else _why_unknown(record),
        duration_seconds=record.total_seconds,
        worker_id=record.worker_id,
    )


def _why_unknown(record: ExchangeRecord) -> str:
    if record.cost.reason is not None:
        return record.cost.reason
    if record.worker_id is None:
        return "it reached no worker"
    if record.is_charged_later:
        return "its worker has not told yet"
    return "its answer did not tell"
