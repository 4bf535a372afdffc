"""NVIDIA GPUs through NVML: the driver's energy counter, or where it has none, its instantaneous power integrated.

`nvmlDeviceGetPowerUsage` must not be used here: on Ampere (but GA100) and newer it is a one-second average (NVML
reference), and integrating it smears one request's joules over the next.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metering.counter import MICROJOULES_PER_JOULE, MICROJOULES_PER_MILLIJOULE, CounterInfo, EnergyReading
from metering.errors import CounterReadError, MeteringError, SourceUnavailableError
from metering.sources.nvml_devices import NvmlDevice, visible_devices
from metering.sources.nvml_library import NvmlLibrary, load_pynvml, nvml_errors_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from metering.counter import EnergyCounter

UNCERTAINTY_RATIO = 0.05
"""Steady error of the on-board power sensor, per board (arXiv 2312.02741)."""
UPDATE_PERIOD_SECONDS = 0.1
"""How often Turing, Ampere and Hopper refresh (arXiv 2312.02741); what is not in there is taken for no faster."""
_FAST_UPDATE_PERIOD_SECONDS = 0.02
_FAST_ARCHITECTURES = ("NVML_DEVICE_ARCH_PASCAL", "NVML_DEVICE_ARCH_VOLTA")
"""Those that refresh every 20 ms (arXiv 2312.02741)."""
MILLIWATTS_PER_WATT = 1_000
MAX_GAP_SECONDS = 5.0
"""Longer than the pauses Python's interpreter lock causes while a model loads, shorter than an outage worth hiding."""
GRACE_HOPPER = "GH200"
"""On this superchip both the energy counter (ml-energy/zeus, pull request 172) and the instantaneous power (arXiv
2312.02741) cover the whole module."""


class NvmlGpu:
    """One GPU in a session that may be renewed: keeps its handle, and asks for another when that is good no more."""

    def __init__(self, device: NvmlDevice, library: NvmlLibrary) -> None:
        self.device = device
        self._library: NvmlLibrary | None = library.share()
        self._handle: Any = None
        self._generation = -1

    @contextmanager
    def asked_for(self, what: str) -> Iterator[tuple[ModuleType, Any]]:
        """Give NVML and the GPU's handle.

        Raises:
            CounterReadError: closed, or NVML has raised within.
        """
        if self._library is None:
            message = "this NVML counter was closed"
            raise CounterReadError(message)
        nvml = self._library.module
        try:
            with nvml_errors_as(CounterReadError, f"reading the {what} of GPU {self.device.uuid}"):
                if self._generation != self._library.generation:
                    self._handle = nvml.nvmlDeviceGetHandleByUUID(self.device.uuid)
                    self._generation = self._library.generation
                yield nvml, self._handle
        except CounterReadError as problem:
            if _code(problem) in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
                self._generation = -1
                self._library.renew()
            raise

    def close(self) -> None:
        library, self._library = self._library, None
        if library is not None:
            library.close()


class NvmlCounter:
    """One GPU's total-energy counter (Volta and newer), in millijoules since the driver was loaded.

    The raw value is passed on: it restarts with the driver, and whoever follows it must notice.
    """

    def __init__(self, device: NvmlDevice, clock: Callable[[], float], library: NvmlLibrary) -> None:
        self._clock = clock
        self._gpu = NvmlGpu(device, library)
        self.info = _info(device, "the driver's total-energy counter")

    def read(self) -> EnergyReading:
        with self._gpu.asked_for("energy") as (nvml, handle):
            at_seconds = self._clock()
            energy_millijoules: int = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return EnergyReading(at_seconds, energy_millijoules * MICROJOULES_PER_MILLIJOULE)

    def close(self) -> None:
        self._gpu.close()


class PowerIntegratingCounter:
    """Energy of a GPU without an energy counter: the trapezoid over `NVML_FI_DEV_POWER_INSTANT`, from the first read.

    It is as good as it is often read (20 Hz is twice the sensor's rate), and power between two reads is taken to run
    straight. Across more than `MAX_GAP_SECONDS` nothing is known: the sum restarts at zero, as after a driver reload,
    rather than inventing joules. One reader at a time.
    """

    def __init__(self, device: NvmlDevice, clock: Callable[[], float], library: NvmlLibrary) -> None:
        self._clock = clock
        self._gpu = NvmlGpu(device, library)
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
        self._gpu.close()

    def _power_watts(self) -> float:
        with self._gpu.asked_for("power") as (nvml, handle):
            (field,) = nvml.nvmlDeviceGetFieldValues(handle, [nvml.NVML_FI_DEV_POWER_INSTANT])
            if field.nvmlReturn != nvml.NVML_SUCCESS:
                raise nvml.NVMLError(field.nvmlReturn)
            power_milliwatts: int = field.value.uiVal
        return power_milliwatts / MILLIWATTS_PER_WATT


def open_nvml_counters(
    clock: Callable[[], float], visible: str | None, order: str | None = None
) -> list[EnergyCounter]:
    """Open a counter for every GPU that CUDA would show this process, in CUDA's order: all of them, or none.

    `visible` and `order` are the values of `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`, None where unset. As in
    CUDA, the list of visible devices ends at its first invalid entry.

    Raises:
        SourceUnavailableError: no driver, no visible GPU, a MIG slice, GPUs that cannot be told apart, or no sensor.
    """
    library = NvmlLibrary(clock)
    counters: list[EnergyCounter] = []
    try:
        for device in visible_devices(library.module, visible, order):
            counters.append(_open_counter(device, clock, library))  # noqa: PERF401  what was opened must be closed
    except MeteringError:
        for counter in counters:
            counter.close()
        raise
    finally:
        library.close()
    return counters


def _open_counter(device: NvmlDevice, clock: Callable[[], float], library: NvmlLibrary) -> EnergyCounter:
    """Probe for the energy counter first, then for instantaneous power."""
    nvml = load_pynvml()
    refusals: list[str] = []
    for kind in (NvmlCounter, PowerIntegratingCounter):
        counter = kind(device, clock, library)
        try:
            counter.read()
        except CounterReadError as problem:
            counter.close()
            refusals.append(str(problem))
            if _code(problem) not in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
                break
        else:
            return counter
    message = f"GPU {device.uuid} ({device.name}) cannot be measured: {'; '.join(refusals)}"
    raise SourceUnavailableError(message)


def _code(problem: CounterReadError) -> int | None:
    cause: Any = problem.__cause__
    return None if cause is None else cause.value


def _info(device: NvmlDevice, how: str) -> CounterInfo:
    covers = "; covers the whole module, the Grace CPU and its memory included" if GRACE_HOPPER in device.name else ""
    return CounterInfo(
        device=device.uuid,
        component="gpu",
        source="nvml",
        measured=True,
        update_period_seconds=_update_period_seconds(device.architecture),
        uncertainty_ratio=UNCERTAINTY_RATIO,
        description=f"{device.name} (GPU {device.index}), {how}{covers}",
    )


def _update_period_seconds(architecture: int | None) -> float:
    nvml = load_pynvml()
    is_fast = architecture in [getattr(nvml, name) for name in _FAST_ARCHITECTURES]
    return _FAST_UPDATE_PERIOD_SECONDS if is_fast else UPDATE_PERIOD_SECONDS
