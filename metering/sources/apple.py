"""Apple processors: the energies that macOS keeps of its CPU, GPU and memory, as the zeus library reads them.

Neither how often they are updated nor how precise they are is documented. Not tried on a real one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from metering.counter import CounterInfo
from metering.errors import SourceUnavailableError
from metering.sources.opened import OpenedSource
from metering.sources.zeus import INSTALL, ZeusCounter, load_zeus

if TYPE_CHECKING:
    from collections.abc import Callable

UPDATE_PERIOD_SECONDS = 0.1
"""Not documented: taken for the slowest of the counters whose period is known."""
_FIELDS = {"gpu": ("gpu_mj", "GPU"), "cpu": ("cpu_total_mj", "CPU"), "dram": ("dram_mj", "memory")}


def open_apple_counters(clock: Callable[[], float], platform: str = sys.platform) -> OpenedSource:
    """Open a counter for each component the processor tells of.

    Raises:
        SourceUnavailableError: this is no Apple processor, or it tells of none.
    """
    if platform != "darwin":
        raise SourceUnavailableError("this is no Apple machine")
    soc_module = load_zeus("zeus.device.soc", "Apple processors")
    try:
        soc = soc_module.get_soc()
        first = soc.get_total_energy_consumption()
    except Exception as problem:
        raise SourceUnavailableError(f"the Apple processor cannot be measured: {problem}", (INSTALL,)) from problem
    counters = [
        ZeusCounter(_info(component, what), clock, _reader(soc, field))
        for component, (field, what) in _FIELDS.items()
        if getattr(first, field, None) is not None
    ]
    if not counters:
        raise SourceUnavailableError("the Apple processor tells the energy of neither its GPU, its CPU nor its memory")
    return OpenedSource(tuple(counters))


def _reader(soc: Any, field: str) -> Callable[[], float]:  # noqa: ANN401  zeus has no types for us
    return lambda: float(getattr(soc.get_total_energy_consumption(), field))


def _info(component: str, what: str) -> CounterInfo:
    return CounterInfo(
        device=f"apple:{component}",
        component=component,
        source="apple",
        measured=True,
        update_period_seconds=UPDATE_PERIOD_SECONDS,
        uncertainty_ratio=None,
        description=f"the {what} of this Apple processor, whoever uses it, through zeus",
    )
