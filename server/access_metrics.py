"""The Prometheus families of the gate and the ledger: read from their owners at scrape time."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from metering.counter import MICROJOULES_PER_JOULE
from server import metric_catalogue as catalogue
from server.access.energy_budget import BudgetState, Period
from server.access.gate import Gate, TenantUsage
from server.access.tenant_account import Refusal
from server.ledger.ledger import DatabaseLedger, NoLedger
from server.tenant_labels import TenantLabels


class GateCollector(Collector):
    """What tenants were refused, and what is left of their budgets."""

    def __init__(self, gate: Gate, tenants: TenantLabels) -> None:
        self._gate = gate
        self._tenants = tenants

    def collect(self) -> Iterator[Metric]:
        by_label: dict[str, list[TenantUsage]] = {}
        usages = list(self._gate.usage())
        has_room = self._tenants.has_room_for(len(usages))
        for usage in usages:
            # Where not all have room, whoever holds a key and asks for nothing shares with the others. Its counts are 0
            # then, so those that share lose nothing when it begins to ask.
            is_heard_of = has_room or usage.running or usage.refusals or usage.unknown_energy_requests
            label = self._tenants.of if is_heard_of else self._tenants.without_claim
            by_label.setdefault(label(usage.tenant), []).append(usage)
        yield from _limits(by_label)
        yield from _budgets(by_label)
        invalid = catalogue.INVALID_KEYS.total()
        invalid.add_metric((), self._gate.invalid_keys)
        yield invalid


def _limits(by_label: dict[str, list[TenantUsage]]) -> Iterator[Metric]:
    refusals = catalogue.TENANT_REFUSALS.total()
    running, unknown = catalogue.TENANT_RUNNING.gauge(), catalogue.TENANT_UNKNOWN.gauge()
    for label, usages in by_label.items():
        running.add_metric((label,), sum(usage.running for usage in usages))
        unknown.add_metric((label,), sum(usage.unknown_energy_requests for usage in usages))
        for reason in Refusal:
            refusals.add_metric((label, reason.value), sum(usage.refusals.get(reason, 0) for usage in usages))
    yield from (refusals, running, unknown)


def _budgets(by_label: dict[str, list[TenantUsage]]) -> Iterator[Metric]:
    remaining, limit = catalogue.BUDGET_REMAINING.gauge(), catalogue.BUDGET.gauge()
    for label, usages in by_label.items():
        tightest: dict[Period, BudgetState] = {}
        for budget in (budget for usage in usages for budget in usage.budgets):
            known = tightest.get(budget.period)
            if known is None or _left(budget) < _left(known):
                tightest[budget.period] = budget
        for period, budget in tightest.items():
            labels = label, period.value
            limit.add_metric(labels, budget.limit_microjoules / MICROJOULES_PER_JOULE)
            remaining.add_metric(labels, budget.remaining_microjoules / MICROJOULES_PER_JOULE)
    yield from (remaining, limit)


def _left(budget: BudgetState) -> float:
    return budget.remaining_microjoules / budget.limit_microjoules if budget.limit_microjoules else 0.0


class LedgerCollector(Collector):
    """How the ledger keeps up."""

    def __init__(self, ledger: DatabaseLedger | NoLedger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        status = self._ledger.status()
        available, pending = catalogue.LEDGER_AVAILABLE.gauge(), catalogue.LEDGER_PENDING.gauge()
        available.add_metric((), float(status.is_available))
        pending.add_metric((), status.pending_rows)
        written, lost = catalogue.LEDGER_WRITTEN.total(), catalogue.LEDGER_LOST.total()
        failed = catalogue.LEDGER_FAILED.total()
        written.add_metric((), status.written_rows_total)
        failed.add_metric((), status.failed_writes_total)
        lost.add_metric((), status.lost_rows_total)
        yield from (available, pending, written, failed, lost)
