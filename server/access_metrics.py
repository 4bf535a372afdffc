"""The Prometheus families of the gate and the ledger: read from their owners at scrape time.

Cardinality is bounded: tenants are those that hold a key, reasons and periods are closed sets.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metering.counter import MICROJOULES_PER_JOULE
from server.access.gate import Gate
from server.access.tenant_account import Refusal
from server.ledger.ledger import DatabaseLedger, NoLedger


class GateCollector(Collector):
    """What tenants were refused, and what is left of their budgets."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        refusals = CounterMetricFamily(
            "wattline_tenant_refusals", "Requests refused for a tenant's limits.", labels=("tenant", "reason")
        )
        running = GaugeMetricFamily("wattline_tenant_running_requests", "Requests in flight.", labels=("tenant",))
        unknown = GaugeMetricFamily(
            "wattline_tenant_unknown_energy_requests",
            "Requests ended whose energy nobody has told: budgets count them as nothing.",
            labels=("tenant",),
        )
        remaining = GaugeMetricFamily(
            "wattline_tenant_energy_budget_remaining_joules",
            "What is left of a tenant's budget.",
            labels=("tenant", "period"),
        )
        limit = GaugeMetricFamily(
            "wattline_tenant_energy_budget_joules", "A tenant's budget.", labels=("tenant", "period")
        )
        for usage in self._gate.usage():
            running.add_metric((usage.tenant,), usage.running)
            unknown.add_metric((usage.tenant,), usage.unknown_energy_requests)
            for reason in Refusal:
                refusals.add_metric((usage.tenant, reason.value), usage.refusals.get(reason, 0))
            for budget in usage.budgets:
                labels = usage.tenant, budget.period.value
                limit.add_metric(labels, budget.limit_microjoules / MICROJOULES_PER_JOULE)
                remaining.add_metric(labels, budget.remaining_microjoules / MICROJOULES_PER_JOULE)
        yield from (refusals, running, unknown, remaining, limit)
        yield CounterMetricFamily(
            "wattline_invalid_keys", "Requests refused for want of a valid key.", self._gate.invalid_keys
        )


class LedgerCollector(Collector):
    """How the ledger keeps up."""

    def __init__(self, ledger: DatabaseLedger | NoLedger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterator[Metric]:
        status = self._ledger.status()
        yield GaugeMetricFamily("wattline_ledger_available", "1 while rows are written.", float(status.is_available))
        yield GaugeMetricFamily("wattline_ledger_pending_rows", "Rows waiting to be written.", status.pending_rows)
        yield CounterMetricFamily("wattline_ledger_written_rows", "Rows written.", status.written_rows_total)
        yield CounterMetricFamily(
            "wattline_ledger_failed_writes", "Groups of rows that could not be written.", status.failed_writes_total
        )
        yield CounterMetricFamily("wattline_ledger_lost_rows", "Rows given up for good.", status.lost_rows_total)
