"""One NVIDIA board as NVML shows it, and a thread that writes down everything its energy counter tells.

Independent of `metering` on purpose: it is the second witness against which the meter's books are held.
"""

import bisect
import itertools
import threading
import time
from dataclasses import dataclass
from typing import Any, Final, Self

import pynvml

POLL_SECONDS: Final = 0.004
"""So that the moment of a refresh is known well within the shortest refresh period, 20 ms."""
_MICROJOULES_PER_MILLIJOULE: Final = 1_000
_MILLIWATTS_PER_WATT: Final = 1_000
_MICROJOULES_PER_JOULE: Final = 1_000_000


class Board:
    """The board with this index in NVML's order."""

    def __init__(self, index: int = 0) -> None:
        pynvml.nvmlInit()
        self._handle: Any = pynvml.nvmlDeviceGetHandleByIndex(index)

    def energy_microjoules(self) -> int:
        """The driver's total-energy counter."""
        millijoules: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return millijoules * _MICROJOULES_PER_MILLIJOULE

    def instant_watts(self) -> float:
        """`NVML_FI_DEV_POWER_INSTANT`."""
        (field,) = pynvml.nvmlDeviceGetFieldValues(self._handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(field.nvmlReturn)
        milliwatts: int = field.value.uiVal
        return milliwatts / _MILLIWATTS_PER_WATT

    def averaged_watts(self) -> float:
        """`nvmlDeviceGetPowerUsage`: since Ampere (but GA100) the mean of a second."""
        milliwatts: int = pynvml.nvmlDeviceGetPowerUsage(self._handle)
        return milliwatts / _MILLIWATTS_PER_WATT

    def identity(self) -> dict[str, Any]:
        """What was measured, for the record."""
        return {
            "name": pynvml.nvmlDeviceGetName(self._handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "limit_watts": pynvml.nvmlDeviceGetEnforcedPowerLimit(self._handle) / _MILLIWATTS_PER_WATT,
            "persistence_mode": pynvml.nvmlDeviceGetPersistenceMode(self._handle),
        }

    def state(self) -> dict[str, Any]:
        """Clocks, temperature and memory: why power is what it is."""
        return {
            "sm_megahertz": pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM),
            "memory_megahertz": pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_MEM),
            "celsius": pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU),
            "performance_state": pynvml.nvmlDeviceGetPerformanceState(self._handle),
            "memory_used_bytes": pynvml.nvmlDeviceGetMemoryInfo(self._handle).used,
        }


@dataclass(frozen=True, slots=True)
class Refresh:
    """The counter showed a new value at this time of the monotonic clock."""

    at_seconds: float
    energy_microjoules: int


class BoardLog:
    """Every refresh of the energy counter, and beside each poll's turn the instantaneous power, while it is open."""

    def __init__(self, board: Board, poll_seconds: float = POLL_SECONDS) -> None:
        self._board = board
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board-log", daemon=True)
        self.refreshes: list[Refresh] = []
        self.instants: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def joules_between(self, from_seconds: float, to_seconds: float) -> tuple[float, float]:
        """Joules and seconds from the last refresh not after `from_seconds` to the last not after `to_seconds`."""
        times = [refresh.at_seconds for refresh in self.refreshes]
        first = self.refreshes[max(0, bisect.bisect_right(times, from_seconds) - 1)]
        last = self.refreshes[max(0, bisect.bisect_right(times, to_seconds) - 1)]
        return (
            (last.energy_microjoules - first.energy_microjoules) / _MICROJOULES_PER_JOULE,
            last.at_seconds - first.at_seconds,
        )

    def instant_mean_watts(self, from_seconds: float, to_seconds: float) -> float:
        """The trapezoid over the instantaneous power, over its time."""
        seen = [one for one in self.instants if from_seconds <= one[0] <= to_seconds]
        joules = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(seen))
        return joules / (seen[-1][0] - seen[0][0])

    def _run(self) -> None:
        previous = -1
        while not self._stopping.wait(self._poll_seconds):
            energy_microjoules = self._board.energy_microjoules()
            now = time.monotonic()
            if energy_microjoules != previous:
                self.refreshes.append(Refresh(now, energy_microjoules))
                previous = energy_microjoules
            watts = self._board.instant_watts()
            self.instants.append((time.monotonic(), watts))
