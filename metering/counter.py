"""The one capability every energy source offers: a cumulative counter.

Adapters convert the vendor's unit to integer microjoules on the line that reads it, and may raise only
the errors of `metering.errors`. They know nothing of requests, workers or HTTP.
"""

from dataclasses import dataclass
from typing import Protocol

MICROJOULES_PER_JOULE = 1_000_000
MICROJOULES_PER_MILLIJOULE = 1_000


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """One look at a counter.

    `at_seconds` is on the monotonic clock the counter was given; `energy_microjoules` is cumulative since
    an arbitrary start and comparable only with other readings of the same counter.
    """

    at_seconds: float
    energy_microjoules: int


@dataclass(frozen=True, slots=True)
class CounterInfo:
    """What a counter is, for reports and for the energy block.

    `component` is one of `gpu`, `cpu`, `dram`. `source` names what is read: hardware (`nvml`, `rapl`, `amdsmi`,
    `zeusd`, `apple`), in which case `measured` is true, or none (`estimate`, `replay`). `update_period_seconds` is how
    often the hardware refreshes the value. `uncertainty_ratio` is the documented steady error, or None where no source
    states one.
    `may_stand_still` is true for a counter whose value need not rise while it works, as a recording's: a powered
    device always draws something, so that a hardware counter which stands still for seconds has stopped telling.
    """

    device: str
    component: str
    source: str
    measured: bool
    update_period_seconds: float
    uncertainty_ratio: float | None
    description: str
    may_stand_still: bool = False


class EnergyCounter(Protocol):
    """A cumulative energy counter of one device and component."""

    @property
    def info(self) -> CounterInfo: ...

    def read(self) -> EnergyReading:
        """Read the counter now.

        Raises:
            CounterReadError: the device did not answer this time.
        """
        ...

    def close(self) -> None:
        """Release the device. Reading afterwards is an error; closing twice is not."""
        ...
