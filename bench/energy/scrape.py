"""One look at a front end's `/metrics`: the families that the benchmark reads, as plain numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scrape:
    """Joules by account and in flight over all workers and components; sequences by worker; counts by two labels."""

    account_joules: dict[str, float] = field(default_factory=dict)
    in_flight_joules: float = 0.0
    running_requests: dict[str, float] = field(default_factory=dict)
    dispatches: dict[tuple[str, str], float] = field(default_factory=dict)
    worker_commands: dict[tuple[str, str], float] = field(default_factory=dict)
    counter_faults: float = 0.0

    @classmethod
    def of_page(cls, page: str) -> Self:
        """Reads a page in Prometheus' text format; families that are not there count as empty."""
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        by_name: dict[str, list[tuple[dict[str, str], float]]] = {}
        for sample in samples:
            by_name.setdefault(sample.name, []).append((sample.labels, sample.value))
        return cls(
            account_joules=_summed(by_name.get("wattline_energy_joules_total", ()), "account"),
            in_flight_joules=sum(value for _, value in by_name.get("wattline_energy_in_flight_joules", ())),
            running_requests=_summed(by_name.get("wattline_worker_running_requests", ()), "worker"),
            dispatches=_counts(by_name.get("wattline_dispatches_total", ()), "worker", "reason"),
            worker_commands=_counts(by_name.get("wattline_worker_commands_total", ()), "worker", "command"),
            counter_faults=sum(value for _, value in by_name.get("wattline_energy_counter_faults_total", ())),
        )

    @property
    def energy_joules(self) -> float:
        """All the workers' energy, whatever it went to."""
        return sum(self.account_joules.values()) + self.in_flight_joules


_Key = TypeVar("_Key", str, tuple[str, str])


def risen(later: Mapping[_Key, float], earlier: Mapping[_Key, float]) -> dict[_Key, float]:
    """By how much each total has risen; totals that have not are left out."""
    differences = {key: value - earlier.get(key, 0.0) for key, value in later.items()}
    return {key: value for key, value in differences.items() if value}


def _summed(samples: Iterable[tuple[dict[str, str], float]], label: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for labels, value in samples:
        totals[labels[label]] = totals.get(labels[label], 0.0) + value
    return totals


def _counts(samples: Iterable[tuple[dict[str, str], float]], first: str, second: str) -> dict[tuple[str, str], float]:
    return {(labels[first], labels[second]): value for labels, value in samples}
