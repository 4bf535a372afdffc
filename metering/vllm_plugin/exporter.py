"""Adds the `wattline_energy_*` families to the `/metrics` page of the vLLM server that hosts the meter."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metering.counter import MICROJOULES_PER_JOULE
from metering.fault import CounterFault

if TYPE_CHECKING:
    from metering.vllm_plugin.session import MeterSession


class EnergyExporter(Collector):
    """Shows the session's latest telemetry; holds no state of its own.

    vLLM collects in a worker thread, where the meter must not be touched: the middleware has the telemetry brought up
    to date on the event loop just before.
    """

    def __init__(self, session: "MeterSession") -> None:
        self._session = session

    def collect(self) -> Iterator[Metric]:
        report = self._session.latest_telemetry
        if report["source"] is None:
            return
        worker, model = self._session.worker_id, self._session.model
        energy = CounterMetricFamily(
            "wattline_energy_joules",
            "Energy by account, in joules; the accounts and what is in flight add up to the hardware counter.",
            labels=("worker", "model", "component", "account"),
        )
        for component, accounts in report["accounts_microjoules"].items():
            for account, microjoules in accounts.items():
                energy.add_metric((worker, model, component, account), microjoules / MICROJOULES_PER_JOULE)
        yield energy
        in_flight = GaugeMetricFamily(
            "wattline_energy_in_flight_joules",
            "Energy of requests that have not ended, so far, in joules.",
            labels=("worker", "model", "component"),
        )
        for component, phases in report["in_flight_microjoules"].items():
            in_flight.add_metric((worker, model, component), sum(phases.values()) / MICROJOULES_PER_JOULE)
        yield in_flight
        faults = CounterMetricFamily(
            "wattline_energy_counter_faults",
            "Faults of the hardware counters: reset, jump, stall, lost, sampler, suspended. Each began a new epoch.",
            labels=("worker", "counter", "fault"),
        )
        for counter, counts in report["counter_faults"].items():
            for fault in CounterFault:
                faults.add_metric((worker, counter, fault.value), counts.get(fault.value, 0))
        yield faults
        power = GaugeMetricFamily("wattline_power_watts", "Present power, in watts.", labels=("worker", "component"))
        for component, watts in report["power_watts"].items():
            if watts is not None:
                power.add_metric((worker, component), watts)
        yield power


def register_exporter(session: "MeterSession") -> None:
    """Put the families on the process's default registry, which vLLM's `/metrics` serves."""
    REGISTRY.register(EnergyExporter(session))
