"""AMD GPUs: the driver's energy accumulator, through AMD SMI as the zeus library reads it.

It is not supported in a virtual machine's guest (AMD SMI reference, "Power Queries"). Neither how often it is updated
nor how precise it is, is documented there.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metering.counter import CounterInfo
from metering.errors import SourceUnavailableError
from metering.sources.opened import OpenedSource
from metering.sources.zeus import ZeusCounter, load_zeus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UPDATE_PERIOD_SECONDS = 0.1
"""Not documented: taken for the slowest of the GPU counters whose period is known."""
_NOT_MAPPED = ("ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
"""Variables that renumber the GPUs, and that the library does not follow."""
_TWO_DIES = "MI250"
"""A board of two GPUs with one counter, which the one of even number shows (zeus, `zeus.device.gpu.amd`)."""


def open_amdsmi_counters(clock: Callable[[], float], environ: Mapping[str, str]) -> OpenedSource:
    """Open a counter for every GPU that HIP would show this process, in HIP's order: all of them, or none.

    The library itself follows HIP_VISIBLE_DEVICES, or CUDA_VISIBLE_DEVICES. It takes half a second to see whether the
    counters agree with the boards' power.

    Raises:
        SourceUnavailableError: no AMD GPU, none visible, or one whose energy cannot be told.
    """
    amd = load_zeus("zeus.device.gpu.amd", "AMD GPUs")
    with _without_its_advice():
        if not amd.amdsmi_is_available():
            raise SourceUnavailableError(
                "no AMD GPU management here (libamd_smi.so does not load, or finds no driver)",
                ("on a machine with AMD GPUs install amd-smi-lib of ROCm 6.2 or newer, and set ROCM_PATH",),
            )
    for key in _NOT_MAPPED:
        if key in environ:
            reason = f"{key} is set, which numbers GPUs in a way that the zeus library does not follow"
            raise SourceUnavailableError(reason, ("name the GPUs in HIP_VISIBLE_DEVICES instead",))
    try:
        gpus = amd.AMDGPUs()
        counted = _counted(list(gpus.gpus))
    except SourceUnavailableError:
        raise
    except Exception as problem:  # the library passes on AMD SMI's errors, and ValueError for UUIDs in the variables
        raise SourceUnavailableError(f"the AMD GPUs cannot be measured: {problem}") from problem
    return OpenedSource(tuple(_counter(gpus, gpu, clock) for gpu in counted))


@contextmanager
def _without_its_advice() -> Iterator[None]:
    """Keep the library from warning everybody who has no ROCm to install it; the refusal says so to those who ask."""
    logger = logging.getLogger("zeus.device.gpu.amd")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _counted(gpus: list[Any]) -> list[Any]:
    """Give the GPUs whose counters together are the energy of all of them."""
    if not gpus:
        raise SourceUnavailableError("AMD's driver answers but shows no GPU")
    visible = {gpu.gpu_index for gpu in gpus}
    return [gpu for gpu in gpus if _is_counted(gpu, visible)]


def _is_counted(gpu: Any, visible: set[int]) -> bool:  # noqa: ANN401  zeus has no types for us
    """Tell whether a counter is to be read of this GPU itself; false where its neighbour on the board has it."""
    if _TWO_DIES in gpu.get_name():
        if gpu.gpu_index ^ 1 not in visible:
            reason = f"GPU {gpu.gpu_index} is one of two on a board with one counter, and the other is not visible"
            raise SourceUnavailableError(reason, ("use both GPUs of a board in one engine",))
        if gpu.gpu_index % 2:
            return False
    if gpu.supports_get_total_energy_consumption():
        return True
    raise SourceUnavailableError(
        f"the energy counter of GPU {gpu.gpu_index} ({gpu.get_name()}) does not agree with its power, "
        "a known fault of some GPUs (ROCm/amdsmi issue 38)",
        ("reboot, which mended it for others",),
    )


def _counter(gpus: Any, gpu: Any, clock: Callable[[], float]) -> ZeusCounter:  # noqa: ANN401  zeus has no types for us
    def read_millijoules(_keeps_amdsmi_open: Any = gpus) -> float:  # noqa: ANN401
        return float(gpu.get_total_energy_consumption())

    covers = ", and of the GPU beside it on the board" if _TWO_DIES in gpu.get_name() else ""
    info = CounterInfo(
        device=f"amdgpu:{gpu.gpu_index}",
        component="gpu",
        source="amdsmi",
        measured=True,
        update_period_seconds=UPDATE_PERIOD_SECONDS,
        uncertainty_ratio=None,
        description=f"{gpu.get_name()} (HIP index {gpu.gpu_index}), its energy accumulator{covers}, through zeus",
    )
    return ZeusCounter(info, clock, read_millijoules)
