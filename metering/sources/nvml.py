"""NVIDIA GPUs through NVML: the driver's energy counter, or where it has none, its instantaneous power integrated.

The only module that knows `pynvml` (distribution nvidia-ml-py), which it imports when first used, so that machines
without NVIDIA hardware never load it. `nvmlDeviceGetPowerUsage` must not be used here: on Ampere (but GA100) and newer
it is a one-second average, and integrating it smears one request's joules over the next.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metering.counter import MICROJOULES_PER_JOULE, MICROJOULES_PER_MILLIJOULE, CounterInfo, EnergyReading
from metering.errors import CounterReadError, MeteringError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from metering.counter import EnergyCounter

UNCERTAINTY_RATIO = 0.05
"""Steady error of the on-board power sensor, per board (arXiv 2312.02741)."""
VOLTA_UPDATE_PERIOD_SECONDS = 0.02
UPDATE_PERIOD_SECONDS = 0.1
"""Ampere and Hopper refresh every 100 ms, Volta every 20 ms (arXiv 2312.02741); others are taken for the slower."""
MILLIWATTS_PER_WATT = 1_000
MAX_GAP_SECONDS = 5.0
"""Longer than the pauses Python's interpreter lock causes while a model loads, shorter than an outage worth hiding."""
WHOLE_GPU = "every MIG slice shows the whole GPU's energy, so no slice can be measured by itself"


@dataclass(frozen=True, slots=True)
class NvmlDevice:
    """A GPU as NVML lists it; `handle` is NVML's opaque reference."""

    index: int
    uuid: str
    name: str
    handle: Any
    update_period_seconds: float


class NvmlCounter:
    """One GPU's total-energy counter (Volta and newer), in millijoules since the driver was loaded.

    The raw value is passed on: it restarts with the driver, and whoever follows it must notice.
    """

    def __init__(self, device: NvmlDevice, clock: Callable[[], float]) -> None:
        """Hold NVML open until `close`.

        Raises:
            SourceUnavailableError: NVML cannot be initialised.
        """
        self._device = device
        self._clock = clock
        self._library = _NvmlReference()
        self.info = _info(device, "the driver's total-energy counter")

    def read(self) -> EnergyReading:
        nvml = self._library.module
        with _nvml_errors_as(CounterReadError, f"reading the energy of GPU {self._device.uuid}"):
            at_seconds = self._clock()
            energy_millijoules: int = nvml.nvmlDeviceGetTotalEnergyConsumption(self._device.handle)
        return EnergyReading(at_seconds, energy_millijoules * MICROJOULES_PER_MILLIJOULE)

    def close(self) -> None:
        self._library.close()


class PowerIntegratingCounter:
    """Energy of a GPU without an energy counter: the trapezoid over `NVML_FI_DEV_POWER_INSTANT`, from the first read.

    It is as good as it is often read (20 Hz is twice the sensor's rate), and power between two reads is taken to run
    straight. Across more than `MAX_GAP_SECONDS` nothing is known: the sum restarts at zero, as after a driver reload,
    rather than inventing joules. One reader at a time.
    """

    def __init__(self, device: NvmlDevice, clock: Callable[[], float]) -> None:
        """Hold NVML open until `close`.

        Raises:
            SourceUnavailableError: NVML cannot be initialised.
        """
        self._device = device
        self._clock = clock
        self._library = _NvmlReference()
        self._last: tuple[float, float] | None = None
        self._energy_joules = 0.0
        self.info = _info(device, "no energy counter: instantaneous power integrated between reads (trapezoid)")

    def read(self) -> EnergyReading:
        power_watts = self._power_watts()
        at_seconds = self._clock()
        if self._last is not None:
            last_at_seconds, last_power_watts = self._last
            elapsed_seconds = at_seconds - last_at_seconds
            if elapsed_seconds > MAX_GAP_SECONDS:
                self._energy_joules = 0.0
            else:
                self._energy_joules += elapsed_seconds * (last_power_watts + power_watts) / 2
        self._last = (at_seconds, power_watts)
        return EnergyReading(at_seconds, int(self._energy_joules * MICROJOULES_PER_JOULE))

    def close(self) -> None:
        self._library.close()

    def _power_watts(self) -> float:
        nvml = self._library.module
        with _nvml_errors_as(CounterReadError, f"reading the power of GPU {self._device.uuid}"):
            (field,) = nvml.nvmlDeviceGetFieldValues(self._device.handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
            if field.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(field.nvmlReturn)
            power_milliwatts: int = field.value.uiVal
        return power_milliwatts / MILLIWATTS_PER_WATT


def open_nvml_counters(
    clock: Callable[[], float], visible_devices: str | None, device_order: str | None = None
) -> list[EnergyCounter]:
    """Open a counter for every GPU that CUDA would show this process, in CUDA's order.

    `visible_devices` and `device_order` are the values of `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`, None where
    unset. As in CUDA, the list of visible devices ends at its first invalid entry.

    Raises:
        SourceUnavailableError: no driver, no visible GPU, a MIG slice, GPUs that cannot be told apart, or no sensor.
    """
    library = _NvmlReference()
    counters: list[EnergyCounter] = []
    try:
        for device in _visible(_accessible_devices(library.module), visible_devices, device_order):
            _refuse_mig(library.module, device)
            counters.append(_open_counter(device, clock))
    except MeteringError:
        for counter in counters:
            counter.close()
        raise
    finally:
        library.close()
    return counters


class _NvmlReference:
    """One `nvmlInit`, given back once by `close`; NVML counts them and stays open until the last is returned."""

    def __init__(self) -> None:
        nvml = _load_pynvml()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as problem:
            raise SourceUnavailableError(_why_no_nvml(nvml, problem)) from problem
        self._module: ModuleType | None = nvml

    @property
    def module(self) -> ModuleType:
        if self._module is None:
            message = "this NVML counter was closed"
            raise CounterReadError(message)
        return self._module

    def close(self) -> None:
        nvml, self._module = self._module, None
        if nvml is not None:
            with suppress(nvml.NVMLError):  # a driver that has gone away has nothing left to release
                nvml.nvmlShutdown()


def _load_pynvml() -> ModuleType:
    try:
        return importlib.import_module("pynvml")
    except ImportError as problem:
        message = "the Python package nvidia-ml-py is not installed beside Wattline's meter: install nvidia-ml-py"
        raise SourceUnavailableError(message) from problem


def _why_no_nvml(nvml: ModuleType, problem: Any) -> str:  # noqa: ANN401  pynvml has no types
    reasons = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver library (libnvidia-ml.so.1) on this machine",
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel driver is not loaded: see whether nvidia-smi works",
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA library and kernel driver differ in version: reboot",
        nvml.NVML_ERROR_NO_PERMISSION: "this user may not open the NVIDIA devices: grant access to /dev/nvidia*",
    }
    return reasons.get(problem.value, f"the NVIDIA driver did not start: {problem}")


@contextmanager
def _nvml_errors_as(error: type[MeteringError], doing: str) -> Iterator[None]:
    nvml = _load_pynvml()
    try:
        yield
    except nvml.NVMLError as problem:
        message = f"{doing} failed: {problem}"
        raise error(message) from problem


def _accessible_devices(nvml: ModuleType) -> list[NvmlDevice]:
    with _nvml_errors_as(SourceUnavailableError, "listing the GPUs"):
        devices = [_device(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    accessible = [device for device in devices if device is not None]
    if not accessible:
        message = "the NVIDIA driver answers but shows no GPU"
        raise SourceUnavailableError(message)
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
    return NvmlDevice(index, uuid, name, handle, _update_period_seconds(nvml, handle))


def _update_period_seconds(nvml: ModuleType, handle: Any) -> float:  # noqa: ANN401  pynvml has no types
    try:
        architecture = nvml.nvmlDeviceGetArchitecture(handle)
    except nvml.NVMLError:  # drivers before 11.0 cannot say
        return UPDATE_PERIOD_SECONDS
    return VOLTA_UPDATE_PERIOD_SECONDS if architecture == nvml.NVML_DEVICE_ARCH_VOLTA else UPDATE_PERIOD_SECONDS


def _visible(devices: list[NvmlDevice], visible_devices: str | None, order: str | None) -> list[NvmlDevice]:
    if visible_devices is None:
        return devices
    chosen: list[NvmlDevice] = []
    for entry in (part.strip() for part in visible_devices.split(",")):
        device = _named(entry, devices, order)
        if device is None:
            break
        if device not in chosen:
            chosen.append(device)
    if not chosen:
        message = f"CUDA_VISIBLE_DEVICES={visible_devices!r} hides every one of the {len(devices)} GPU(s)"
        raise SourceUnavailableError(message)
    return chosen


def _named(entry: str, devices: list[NvmlDevice], order: str | None) -> NvmlDevice | None:
    """Find the GPU an entry of CUDA_VISIBLE_DEVICES means: an index, or the beginning of a GPU's UUID."""
    if entry.startswith("MIG"):
        message = f"CUDA_VISIBLE_DEVICES names the MIG slice {entry}: {WHOLE_GPU}"
        raise SourceUnavailableError(message)
    if entry.startswith("GPU-"):
        matches = [device for device in devices if device.uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    if not entry.isdecimal() or int(entry) >= len(devices):
        return None
    # CUDA numbers by speed unless told otherwise, NVML by bus: the numbers agree for certain only among equals.
    if order != "PCI_BUS_ID" and len({device.name for device in devices}) > 1:
        message = (
            f"CUDA_VISIBLE_DEVICES counts GPUs of different models, and CUDA may count otherwise than the driver does: "
            f"set CUDA_DEVICE_ORDER=PCI_BUS_ID (it is {order!r}), or name GPUs by UUID"
        )
        raise SourceUnavailableError(message)
    return devices[int(entry)]


def _refuse_mig(nvml: ModuleType, device: NvmlDevice) -> None:
    with _nvml_errors_as(SourceUnavailableError, f"asking GPU {device.uuid} for its MIG mode"):
        try:
            current, _pending = nvml.nvmlDeviceGetMigMode(device.handle)
        except nvml.NVMLError as problem:
            if problem.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                return
            raise
    if current == nvml.NVML_DEVICE_MIG_ENABLE:
        message = f"GPU {device.uuid} ({device.name}) is split by MIG: {WHOLE_GPU}"
        raise SourceUnavailableError(message)


def _open_counter(device: NvmlDevice, clock: Callable[[], float]) -> EnergyCounter:
    """Probe for the energy counter first, then for instantaneous power."""
    refusals: list[str] = []
    for kind in (NvmlCounter, PowerIntegratingCounter):
        counter = kind(device, clock)
        try:
            counter.read()
        except CounterReadError as problem:
            counter.close()
            refusals.append(str(problem))
            if not _not_supported(problem):
                break
        else:
            return counter
    message = f"GPU {device.uuid} ({device.name}) cannot be measured: {'; '.join(refusals)}"
    raise SourceUnavailableError(message)


def _not_supported(problem: CounterReadError) -> bool:
    nvml = _load_pynvml()
    cause: Any = problem.__cause__
    return cause is not None and cause.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)


def _info(device: NvmlDevice, how: str) -> CounterInfo:
    return CounterInfo(
        device=device.uuid,
        component="gpu",
        source="nvml",
        measured=True,
        update_period_seconds=device.update_period_seconds,
        uncertainty_ratio=UNCERTAINTY_RATIO,
        description=f"{device.name} (GPU {device.index}), {how}",
    )
