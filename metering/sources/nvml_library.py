"""One session with NVIDIA's management library, shared by the counters of a process.

The only module that loads `pynvml` (distribution nvidia-ml-py), and only when first used, so that machines without
NVIDIA hardware never do.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from metering.errors import CounterReadError, MeteringError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

RENEWAL_PERIOD_SECONDS = 5.0
"""Starting NVML anew looks at every GPU of the machine, which may take as long as many readings."""


class NvmlLibrary:
    """An initialised NVML, kept by those who `share` it until the last of them has called `close`.

    A GPU that was lost answers again, if at all, only to those who ask for it anew (`nvmlDeviceGetHandleBy...` attaches
    to a GPU, and the last `nvmlShutdown` lets go of all: NVML reference, "Initialization and Cleanup"). `renew` does
    that; whoever keeps a handle asks for another when `generation` has changed. NVML counts its users, so it lets go
    only if nobody else in the process holds it. One caller at a time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Initialise NVML for the caller, who must close it.

        Raises:
            SourceUnavailableError: no nvidia-ml-py, no driver, or one that does not start.
        """
        self._nvml = load_pynvml()
        self._clock = clock
        self._users = 1
        self._is_up = False
        self._renewed_at_seconds = float("-inf")
        self.generation = 0
        try:
            self._start()
        except self._nvml.NVMLError as problem:
            raise _why_no_nvml(self._nvml, problem) from problem

    @property
    def module(self) -> ModuleType:
        """The module `pynvml`, ready to be called.

        Raises:
            CounterReadError: everybody has closed this session.
        """
        if self._users == 0:
            message = "this NVML counter was closed"
            raise CounterReadError(message)
        return self._nvml

    def share(self) -> NvmlLibrary:
        """Count one more user, who must close it too."""
        self._users += 1
        return self

    def close(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._stop()

    def renew(self) -> None:
        """Start NVML anew, at most every few seconds; the handles of before are good no more, if they ever were."""
        now_seconds = self._clock()
        if now_seconds - self._renewed_at_seconds < RENEWAL_PERIOD_SECONDS:
            return
        self._renewed_at_seconds = now_seconds
        self._stop()
        with suppress(self._nvml.NVMLError):  # the driver is away: the next call says so, and a later renewal finds it
            self._start()

    def _start(self) -> None:
        self._nvml.nvmlInit()
        self._is_up = True
        self.generation += 1

    def _stop(self) -> None:
        if self._is_up:
            self._is_up = False
            with suppress(self._nvml.NVMLError):  # a driver that has gone away has nothing left to release
                self._nvml.nvmlShutdown()


@contextmanager
def nvml_errors_as(error: type[MeteringError], doing: str) -> Iterator[None]:
    """Translate NVML's errors, once."""
    nvml = load_pynvml()
    try:
        yield
    except nvml.NVMLError as problem:
        message = f"{doing} failed: {problem}"
        raise error(message) from problem


def load_pynvml() -> ModuleType:
    """Give the module `pynvml`.

    Raises:
        SourceUnavailableError: it is not installed.
    """
    try:
        return importlib.import_module("pynvml")
    except ImportError as problem:
        raise SourceUnavailableError(
            "the Python package nvidia-ml-py is not installed beside Wattline's meter", ("pip install nvidia-ml-py",)
        ) from problem


def _why_no_nvml(nvml: ModuleType, problem: Any) -> SourceUnavailableError:  # noqa: ANN401  pynvml has no types
    reasons: dict[int, tuple[str, tuple[str, ...]]] = {
        nvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "no NVIDIA driver library (libnvidia-ml.so.1) on this machine",
            ("with a GPU in a container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility",),
        ),
        nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA kernel driver is not loaded",
            ("see whether nvidia-smi works",),
        ),
        nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "the NVIDIA library and kernel driver differ in version",
            ("reboot",),
        ),
        nvml.NVML_ERROR_NO_PERMISSION: (
            "this user may not open the NVIDIA devices",
            ("grant access to /dev/nvidia*",),
        ),
    }
    return SourceUnavailableError(*reasons.get(problem.value, (f"the NVIDIA driver did not start: {problem}", ())))
