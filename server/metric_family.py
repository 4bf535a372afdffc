"""How a Prometheus family is declared: once, as a value that counters, collectors and documentation are made from."""

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Kind = Literal["counter", "gauge", "histogram"]

_HISTOGRAM_SUFFIXES: Final = ("_bucket", "_sum", "_count")
# Prometheus adds the last bucket, `+Inf`, by itself.
_SAMPLES_BESIDE_BUCKETS: Final = 3


@dataclass(frozen=True, slots=True)
class Label:
    """A label with what bounds its values: how many there can be, as a number or as a size that an operator chooses.

    `bound` is a number, or a letter that the documentation explains.
    """

    name: str
    bound: int | str
    text: str


@dataclass(frozen=True, slots=True)
class Family:
    """One family. `name` is without the `_total` that Prometheus shows on counters.

    `absent` says when the family has no series although nothing is wrong; empty where it always has some.
    `series` bounds how many label sets there are where that is less than the product of its labels' bounds.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    absent: str = ""
    series: tuple[int | str, ...] | None = None

    @property
    def shown_name(self) -> str:
        """The name as `# TYPE` lines and queries have it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names that a query may select."""
        if self.kind == "histogram":
            return tuple(f"{self.name}{suffix}" for suffix in _HISTOGRAM_SUFFIXES)
        return (self.shown_name,)

    @property
    def bounds(self) -> tuple[int | str, ...]:
        """The factors whose product is the most series that the family can have."""
        factors = tuple(label.bound for label in self.labels) if self.series is None else self.series
        return (*factors, len(self.buckets) + _SAMPLES_BESIDE_BUCKETS) if self.kind == "histogram" else factors

    def counted(self, registry: CollectorRegistry) -> Counter:
        """A counter that events move."""
        return Counter(self.name, self.text, self.label_names, registry=registry)

    def observed(self, registry: CollectorRegistry) -> Histogram:
        """A histogram that events fill."""
        return Histogram(self.name, self.text, self.label_names, buckets=self.buckets, registry=registry)

    def total(self) -> CounterMetricFamily:
        """An empty counter family, to be filled from its owner at a scrape."""
        return CounterMetricFamily(self.name, self.text, labels=self.label_names)

    def gauge(self) -> GaugeMetricFamily:
        """An empty gauge family, to be filled from its owner at a scrape."""
        return GaugeMetricFamily(self.name, self.text, labels=self.label_names)
