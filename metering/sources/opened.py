"""What opening a source gives: the counters that answer, and what had to be left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.counter import EnergyCounter
    from metering.errors import SourceUnavailableError


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """At least one counter that was read once, and why each component without one has none.

    A component is measured whole or not at all: one socket of two, or one GPU of four, would pass for all of them.
    Whoever gets this closes the counters.
    """

    counters: tuple[EnergyCounter, ...]
    left_out: tuple[SourceUnavailableError, ...] = ()
