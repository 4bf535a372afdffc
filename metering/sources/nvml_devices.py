"""Which GPUs a process may use, as CUDA tells them: order, visibility, and what a MIG slice is.

Asks NVML what there is and reads no energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metering.errors import SourceUnavailableError
from metering.sources.nvml_library import nvml_errors_as

if TYPE_CHECKING:
    from types import ModuleType

WHOLE_GPU = "every MIG slice shows the whole GPU's energy, so no slice can be measured by itself"
_MIG_REMEDIES = (
    "serve from whole GPUs, where their energy matters: sudo nvidia-smi -mig 0",
    "set --meter estimate, which covers the CPU only and says so",
)
_ORDER_KEY = "CUDA_DEVICE_ORDER"


@dataclass(frozen=True, slots=True)
class NvmlDevice:
    """A GPU, or a slice of one, as NVML lists it."""

    index: int
    uuid: str
    name: str
    architecture: int | None
    is_mig_slice: bool = False


def visible_devices(nvml: ModuleType, visible: str | None, order: str | None) -> list[NvmlDevice]:
    """List the GPUs that CUDA would show this process, in CUDA's order; none of them is a MIG slice or split into any.

    `visible` and `order` are the values of CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, None where unset.

    Raises:
        SourceUnavailableError: no visible GPU, a MIG slice, or GPUs whose order cannot be told.
    """
    devices = _accessible_devices(nvml)
    chosen = _all_in_order(devices, order) if visible is None else _named_devices(devices, visible, order)
    for device in chosen:
        _refuse_mig(nvml, device)
    return chosen


def _accessible_devices(nvml: ModuleType) -> list[NvmlDevice]:
    with nvml_errors_as(SourceUnavailableError, "listing the GPUs"):
        devices = [_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    accessible = [device for device in devices if device is not None]
    if not accessible:
        raise SourceUnavailableError("the NVIDIA driver answers but shows no GPU")
    return accessible


def _device(nvml: ModuleType, index: int) -> NvmlDevice | None:
    """Describe the GPU; None where a container hides it, and so from CUDA too."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as problem:
        if problem.value == nvml.NVML_ERROR_NO_PERMISSION:
            return None
        raise
    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    return NvmlDevice(index, uuid, name, _architecture(nvml, handle), _is_mig_slice(nvml, handle, uuid))


def _architecture(nvml: ModuleType, handle: Any) -> int | None:  # noqa: ANN401  pynvml has no types
    try:
        return int(nvml.nvmlDeviceGetArchitecture(handle))
    except nvml.NVMLError:  # drivers before 11.0 cannot say
        return None


def _is_mig_slice(nvml: ModuleType, handle: Any, uuid: str) -> bool:  # noqa: ANN401  pynvml has no types
    try:
        return bool(nvml.nvmlDeviceIsMigDeviceHandle(handle)) or uuid.startswith("MIG")
    except nvml.NVMLError:  # drivers before 11.0 know no slices
        return uuid.startswith("MIG")


def _all_in_order(devices: list[NvmlDevice], order: str | None) -> list[NvmlDevice]:
    if order != "PCI_BUS_ID" and len({device.name for device in devices}) > 1:
        raise _order_unknown("this machine's GPUs are", order)
    return devices


def _named_devices(devices: list[NvmlDevice], visible: str, order: str | None) -> list[NvmlDevice]:
    """Follow the list up to its first invalid entry, where CUDA's ends too."""
    chosen: list[NvmlDevice] = []
    for entry in (part.strip() for part in visible.split(",")):
        device = _named(entry, devices, order)
        if device is None:
            break
        if device not in chosen:
            chosen.append(device)
    if not chosen:
        raise SourceUnavailableError(f"CUDA_VISIBLE_DEVICES={visible!r} hides every one of the {len(devices)} GPU(s)")
    return chosen


def _named(entry: str, devices: list[NvmlDevice], order: str | None) -> NvmlDevice | None:
    """Find the GPU an entry of CUDA_VISIBLE_DEVICES means: an index, or the beginning of a GPU's UUID."""
    if entry.startswith("MIG"):
        raise SourceUnavailableError(
            f"CUDA_VISIBLE_DEVICES names the MIG slice {entry}, and {WHOLE_GPU}", _MIG_REMEDIES
        )
    if entry.startswith("GPU-"):
        matches = [device for device in devices if device.uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    if not entry.isdecimal() or int(entry) >= len(devices):
        return None
    if order != "PCI_BUS_ID" and len({device.name for device in devices}) > 1:
        raise _order_unknown("CUDA_VISIBLE_DEVICES counts GPUs that are", order)
    return devices[int(entry)]


def _order_unknown(what: str, order: str | None) -> SourceUnavailableError:
    """CUDA numbers by speed unless told otherwise, NVML by bus: the numbers agree for certain only among equals."""
    return SourceUnavailableError(
        f"{what} of different models, which CUDA may count otherwise than the driver does ({_ORDER_KEY} is {order!r})",
        (f"set {_ORDER_KEY}=PCI_BUS_ID", "name the GPUs by UUID in CUDA_VISIBLE_DEVICES"),
    )


def _refuse_mig(nvml: ModuleType, device: NvmlDevice) -> None:
    if device.is_mig_slice:
        raise SourceUnavailableError(f"{device.uuid} ({device.name}) is a MIG slice, and {WHOLE_GPU}", _MIG_REMEDIES)
    with nvml_errors_as(SourceUnavailableError, f"asking GPU {device.uuid} for its MIG mode"):
        slices = _slices(nvml, nvml.nvmlDeviceGetHandleByUUID(device.uuid))
    if slices is not None:
        listed = f"into {', '.join(slices)}" if slices else "(no slice is listed)"
        reason = f"GPU {device.uuid} ({device.name}) is split by MIG {listed}, and {WHOLE_GPU}"
        raise SourceUnavailableError(reason, _MIG_REMEDIES)


def _slices(nvml: ModuleType, handle: Any) -> list[str] | None:  # noqa: ANN401  pynvml has no types
    """Give the UUIDs of the slices a GPU is split into; None where it is whole."""
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError as problem:
        if problem.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            return None
        raise
    if current != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    uuids: list[str] = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            uuids.append(nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)))
        except nvml.NVMLError:  # fewer slices than there may be
            break
    return uuids
