"""The server's Prometheus families, each declared once, on a registry of its own.

Cardinality is bounded: endpoints and tiers are closed sets, models are those the workers serve, workers those that were
configured.
"""

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metering.counter import MICROJOULES_PER_JOULE
from scheduler.tiers import TIERS
from server.exchange_record import ExchangeRecord
from server.roster import Roster
from workers.supervisor import WorkerState

_Family = TypeVar("_Family", Counter, Histogram)

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2)
_JOULES: Final = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_JOULES_PER_TOKEN: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50)


class ServerMetrics:
    """Counts finished exchanges; everything else is read from its owner at scrape time."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._children: dict[tuple[object, ...], object] = {}
        self.requests = Counter(
            "wattline_requests",
            "Requests answered, by outcome: completed, failed, refused, aborted.",
            ("endpoint", "model", "tier", "outcome"),
            registry=registry,
        )
        self.tokens = Counter(
            "wattline_tokens", "Tokens, by kind: prompt, output.", ("model", "kind"), registry=registry
        )
        self.tenant_energy = Counter(
            "wattline_tenant_energy_joules",
            "Energy of requests by who asked, in joules; aborted requests included.",
            ("tenant", "model", "tier"),
            registry=registry,
        )
        self.request_energy = Histogram(
            "wattline_request_energy_joules", "Energy of one request.", ("model",), buckets=_JOULES, registry=registry
        )
        self.token_energy = Histogram(
            "wattline_request_joules_per_output_token",
            "Energy of one request over its output tokens.",
            ("model",),
            buckets=_JOULES_PER_TOKEN,
            registry=registry,
        )
        self.request_seconds = self._latency("wattline_request_seconds", "From arrival to the last byte.", _SECONDS)
        self.queue_seconds = self._latency("wattline_queue_seconds", "From arrival to placement.", _SECONDS)
        self.first_token_seconds = self._latency(
            "wattline_time_to_first_token_seconds", "From arrival to the first byte of a stream.", _SECONDS
        )
        self.per_token_seconds = self._latency(
            "wattline_time_per_output_token_seconds",
            "Time after the first byte of a stream over its output tokens after the first.",
            _TOKEN_SECONDS,
        )
        self.dispatches = Counter(
            "wattline_dispatches", "Requests sent to a worker.", ("worker", "reason"), registry=registry
        )
        self.worker_commands = Counter(
            "wattline_worker_commands",
            "What the scheduler had done with a worker: park, start.",
            ("worker", "command"),
            registry=registry,
        )
        self.queue_requests = Gauge(
            "wattline_queue_requests", "Requests waiting for a worker.", ("tier",), registry=registry
        )

    def watch(self, roster: Roster) -> None:
        """Report the states and energy of these workers too."""
        self.registry.register(_RosterCollector(roster))

    def count(self, record: ExchangeRecord) -> None:
        """Take in one finished exchange."""
        model = record.model
        self._child(self.requests, record.endpoint, model, record.tier, record.outcome).inc()
        self._child(self.request_seconds, model).observe(record.total_seconds)
        if record.queue_seconds is not None:
            self._child(self.queue_seconds, model).observe(record.queue_seconds)
        if record.first_byte_seconds is not None:
            self._child(self.first_token_seconds, model).observe(record.first_byte_seconds)
            if record.output_tokens is not None and record.output_tokens > 1:
                rest = record.total_seconds - record.first_byte_seconds
                self._child(self.per_token_seconds, model).observe(rest / (record.output_tokens - 1))
        if record.prompt_tokens is not None and record.output_tokens is not None:
            self._child(self.tokens, model, "prompt").inc(record.prompt_tokens)
            self._child(self.tokens, model, "output").inc(record.output_tokens)
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
        self._child(self.tenant_energy, record.tenant, record.model, record.tier).inc(energy_joules)

    def render(self, queued_by_tier: Iterable[tuple[str, int]]) -> bytes:
        """The page in Prometheus' text format."""
        self.queue_requests.clear()
        for tier in TIERS:
            self.queue_requests.labels(tier).set(0)
        for tier, queued in queued_by_tier:
            self.queue_requests.labels(tier).set(queued)
        return generate_latest(self.registry)

    def _child(self, family: _Family, *labels: str) -> _Family:
        """A family's child, remembered: the label sets are few, and looking one up in the library takes a lock."""
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return cast("_Family", child)

    def _latency(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, ("model",), buckets=buckets, registry=self.registry)


class _RosterCollector(Collector):
    """The families that are states of the workers rather than events."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def collect(self) -> Iterator[Metric]:
        energy = CounterMetricFamily(
            "wattline_energy_joules",
            "Energy by account, in joules; with what is in flight they add up to the hardware counters.",
            labels=("worker", "model", "component", "account"),
        )
        in_flight = GaugeMetricFamily(
            "wattline_energy_in_flight_joules",
            "Energy of requests that have not ended, so far.",
            labels=("worker", "model", "component"),
        )
        faults = CounterMetricFamily(
            "wattline_energy_counter_faults",
            "Faults of the workers' hardware counters, each of which began a new epoch.",
            labels=("worker", "counter", "fault"),
        )
        power = GaugeMetricFamily("wattline_power_watts", "Present power.", labels=("worker", "component"))
        running = GaugeMetricFamily(
            "wattline_worker_running_requests", "Sequences running in the engine.", labels=("worker",)
        )
        state = GaugeMetricFamily(
            "wattline_worker_state", "1 for the state the worker is in, 0 for the others.", labels=("worker", "state")
        )
        restarts = CounterMetricFamily(
            "wattline_worker_restarts", "Times a worker was started again.", labels=("worker",)
        )
        for member in self._roster.members():
            worker, report = member.worker_id, member.energy
            for (component, account), microjoules in report.totals():
                energy.add_metric((worker, report.model, component, account), microjoules / MICROJOULES_PER_JOULE)
            for component, microjoules in report.in_flight.items():
                in_flight.add_metric((worker, report.model, component), microjoules / MICROJOULES_PER_JOULE)
            for (counter, fault), count in report.counter_faults.items():
                faults.add_metric((worker, counter, fault), count)
            for component, watts in report.power_watts.items():
                if watts is not None:
                    power.add_metric((worker, component), watts)
            running.add_metric((worker,), report.running_requests)
            restarts.add_metric((worker,), member.supervisor.restarts)
            for name in WorkerState:
                state.add_metric((worker, name.value), float(member.supervisor.state is name))
        yield from (energy, in_flight, faults, power, running, state, restarts)
