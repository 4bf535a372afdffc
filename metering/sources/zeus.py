"""Counters that are read through the zeus library (optional extra `zeus`, https://ml.energy/zeus), which others adapt.

For hardware that the library knows better than we: AMD GPUs, Apple processors, and hosts where only a daemon may read.
Loads the library when first used, and translates its errors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from metering.counter import MICROJOULES_PER_MILLIJOULE, EnergyReading
from metering.errors import CounterReadError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from metering.counter import CounterInfo

INSTALL = "pip install wattline[zeus]"


class ZeusNotInstalledError(SourceUnavailableError):
    """The library that reads these sensors is not there."""


class ZeusCounter:
    """A cumulative energy that the library gives in millijoules, passed on as it is."""

    def __init__(self, info: CounterInfo, clock: Callable[[], float], read_millijoules: Callable[[], float]) -> None:
        """`read_millijoules` may raise whatever its vendor raises."""
        self.info = info
        self._clock = clock
        self._read_millijoules: Callable[[], float] | None = read_millijoules

    def read(self) -> EnergyReading:
        if self._read_millijoules is None:
            message = f"this {self.info.source} counter was closed"
            raise CounterReadError(message)
        at_seconds = self._clock()
        try:
            energy_millijoules = self._read_millijoules()
        except Exception as problem:  # the library passes on vendors' errors of many kinds, and documents few
            message = f"reading the energy of {self.info.device} failed: {problem}"
            raise CounterReadError(message) from problem
        return EnergyReading(at_seconds, int(energy_millijoules * MICROJOULES_PER_MILLIJOULE))

    def close(self) -> None:
        self._read_millijoules = None


def load_zeus(module: str, reads: str) -> ModuleType:
    """Import one of the library's modules.

    Raises:
        ZeusNotInstalledError: it is not installed.
        SourceUnavailableError: it is installed and does not load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as problem:
        if problem.name is not None and problem.name.partition(".")[0] == "zeus":
            reason = f"the zeus library, which reads {reads}, is not installed"
            raise ZeusNotInstalledError(reason, (INSTALL,)) from problem
        raise SourceUnavailableError(f"the zeus library does not load: {problem}", (INSTALL,)) from problem
    except Exception as problem:
        raise SourceUnavailableError(f"the zeus library does not load: {problem}") from problem
