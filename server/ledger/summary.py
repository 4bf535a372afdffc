"""What requests cost in all: sums by tenant, model and time, exact to the microjoule."""

from dataclasses import dataclass, field, fields
from typing import Final

from metering.counter import MICROJOULES_PER_JOULE


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over requests. Energy is of every outcome: aborted and failed requests used it too.

    Measured energy was read from hardware; estimated energy was not, or nobody knows. Refused requests reached no
    engine: their energy is not unknown. Carbon is known of all energy but `microjoules_without_carbon`.
    """

    requests: int = 0
    completed_requests: int = 0
    failed_requests: int = 0
    refused_requests: int = 0
    aborted_requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    measured_microjoules: int = 0
    estimated_microjoules: int = 0
    prefill_microjoules: int = 0
    decode_microjoules: int = 0
    requests_of_unknown_energy: int = 0
    output_tokens_of_known_energy: int = 0
    carbon_g_co2eq: float = 0.0
    microjoules_without_carbon: int = 0
    served_seconds: float = 0.0
    queued_requests: int = 0
    queue_seconds: float = 0.0
    streamed_requests: int = 0
    first_token_seconds: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def energy_microjoules(self) -> int:
        return self.measured_microjoules + self.estimated_microjoules

    @property
    def energy_joules(self) -> float:
        return self.energy_microjoules / MICROJOULES_PER_JOULE

    @property
    def joules_per_output_token(self) -> float | None:
        """All the energy over all the tokens of requests whose energy is known."""
        tokens = self.output_tokens_of_known_energy
        return self.energy_joules / tokens if tokens else None

    @property
    def known_carbon_g_co2eq(self) -> float | None:
        """None where no carbon intensity was known for any of the energy."""
        return None if self.microjoules_without_carbon == self.energy_microjoules else self.carbon_g_co2eq

    @property
    def mean_seconds(self) -> float | None:
        """Of completed requests, from arrival to the last byte."""
        return self.served_seconds / self.completed_requests if self.completed_requests else None

    @property
    def mean_queue_seconds(self) -> float | None:
        return self.queue_seconds / self.queued_requests if self.queued_requests else None

    @property
    def mean_first_token_seconds(self) -> float | None:
        return self.first_token_seconds / self.streamed_requests if self.streamed_requests else None


@dataclass(frozen=True, slots=True)
class SummaryQuery:
    """Which requests, by when they ended (`since` included, `until` not), and what to tell apart."""

    by: tuple[str, ...] = ()
    since_unix_seconds: float | None = None
    until_unix_seconds: float | None = None
    filters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SummaryGroup:
    """The requests that share these values of what was told apart, in its order."""

    key: tuple[str, ...]
    totals: Totals


@dataclass(frozen=True, slots=True)
class Summary:
    """The answer to a `SummaryQuery`: groups in the order of their keys, and everything together."""

    query: SummaryQuery
    groups: tuple[SummaryGroup, ...]

    @property
    def total(self) -> Totals:
        return sum((group.totals for group in self.groups), Totals())


COLUMN_DIMENSIONS: Final = ("tenant", "model", "tier", "endpoint", "outcome", "worker")
TIME_DIMENSIONS: Final = ("hour", "day", "week", "month", "year")
DIMENSIONS: Final = (*COLUMN_DIMENSIONS, *TIME_DIMENSIONS)
