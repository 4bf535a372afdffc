"""The families that finished requests and the scheduler's commands move, on the server's own registry."""

from collections.abc import Iterable
from typing import Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from scheduler.targets import LatencyTargets
from scheduler.tiers import TIERS
from server import metric_catalogue as catalogue
from server.exchange_record import ExchangeRecord
from server.exposition import Exposition
from server.kept_targets import kept_targets
from server.tenant_labels import TenantLabels

_Child = TypeVar("_Child", Counter, Histogram)

_BOOLEANS: Final = {True: "true", False: "false"}


class ServerMetrics:
    """Counts finished exchanges; everything else is read from its owner at scrape time.

    `tenants` decides, for every family, who has series of their own.
    """

    def __init__(self, targets: LatencyTargets | None = None, tenants: TenantLabels | None = None) -> None:
        # One more series for each counter and histogram, which tells when it was created: nobody asks for that.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it
        self.registry = registry = CollectorRegistry()
        self._exposition = Exposition(registry)
        self.tenants = tenants or TenantLabels()
        self._targets = targets or LatencyTargets()
        self._children: dict[tuple[object, ...], object] = {}
        self.requests = catalogue.REQUESTS.counted(registry)
        self.tokens = catalogue.TOKENS.counted(registry)
        self.tenant_requests = catalogue.TENANT_REQUESTS.counted(registry)
        self.tenant_tokens = catalogue.TENANT_TOKENS.counted(registry)
        self.tenant_energy = catalogue.TENANT_ENERGY.counted(registry)
        self.request_energy = catalogue.REQUEST_ENERGY.observed(registry)
        self.token_energy = catalogue.TOKEN_ENERGY.observed(registry)
        self.carbon = catalogue.CARBON.counted(registry)
        self.request_seconds = catalogue.REQUEST_SECONDS.observed(registry)
        self.queue_seconds = catalogue.QUEUE_SECONDS.observed(registry)
        self.first_token_seconds = catalogue.FIRST_TOKEN_SECONDS.observed(registry)
        self.per_token_seconds = catalogue.PER_TOKEN_SECONDS.observed(registry)
        self.slo_requests = catalogue.SLO_REQUESTS.counted(registry)
        self.dispatches = catalogue.DISPATCHES.counted(registry)
        self.worker_commands = catalogue.WORKER_COMMANDS.counted(registry)
        queue = catalogue.QUEUE_REQUESTS
        self.queue_requests = Gauge(queue.name, queue.text, queue.label_names, registry=registry)

    def count(self, record: ExchangeRecord) -> None:
        """Take in one finished exchange."""
        model, tenant = record.model, self.tenants.of(record.tenant)
        self._child(self.requests, record.endpoint, model, record.tier, record.outcome).inc()
        self._child(self.tenant_requests, tenant, model, record.tier).inc()
        self._count_latency(record)
        if record.prompt_tokens is not None and record.output_tokens is not None:
            for kind, tokens in (("prompt", record.prompt_tokens), ("output", record.output_tokens)):
                self._child(self.tokens, model, kind).inc(tokens)
                self._child(self.tenant_tokens, tenant, model, kind).inc(tokens)
        if record.carbon_g_co2eq is not None:
            self._child(self.carbon, model).inc(record.carbon_g_co2eq)
        if record.energy_joules is not None:
            self.charge(record, record.energy_joules)
            self._child(self.request_energy, model).observe(record.energy_joules)
            if record.output_tokens:
                self._child(self.token_energy, model).observe(record.energy_joules / record.output_tokens)

    def dispatched(self, worker_id: str, reason: str) -> None:
        """A request was sent to a worker."""
        self._child(self.dispatches, worker_id, reason).inc()

    def commanded(self, worker_id: str, command: str) -> None:
        """A worker was told to park or to start."""
        self._child(self.worker_commands, worker_id, command).inc()

    def charge(self, record: ExchangeRecord, energy_joules: float) -> None:
        """Book energy to whoever asked for it."""
        tenant = self.tenants.of(record.tenant)
        self._child(self.tenant_energy, tenant, record.model, record.tier).inc(energy_joules)

    def render(self, queued_by_tier: Iterable[tuple[str, int]]) -> bytes:
        """The page in Prometheus' text format."""
        self.queue_requests.clear()
        for tier in TIERS:
            self.queue_requests.labels(tier).set(0)
        for tier, queued in queued_by_tier:
            self.queue_requests.labels(tier).set(queued)
        return self._exposition.render()

    def _count_latency(self, record: ExchangeRecord) -> None:
        model = record.model
        self._child(self.request_seconds, model).observe(record.total_seconds)
        if record.queue_seconds is not None:
            self._child(self.queue_seconds, model).observe(record.queue_seconds)
        if record.first_byte_seconds is not None:
            self._child(self.first_token_seconds, model).observe(record.first_byte_seconds)
            if record.output_tokens is not None and record.output_tokens > 1:
                rest = record.total_seconds - record.first_byte_seconds
                self._child(self.per_token_seconds, model).observe(rest / (record.output_tokens - 1))
        for target, is_met in kept_targets(record, self._targets):
            self._child(self.slo_requests, model, target, _BOOLEANS[True]).inc(is_met)
            self._child(self.slo_requests, model, target, _BOOLEANS[False]).inc(not is_met)

    def _child(self, family: _Child, *labels: str) -> _Child:
        """A family's child, remembered: the label sets are few, and looking one up in the library takes a lock."""
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return cast("_Child", child)
