"""The NVIDIA GPUs of this machine, as the driver's own tool lists them, and the hardware class of each worker."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Final

from server.errors import StartError

_LINE: Final = re.compile(r"^GPU (\d+): (.+?) \(UUID: ([^)]+)\)")
UNKNOWN_HARDWARE: Final = "unknown"
# Names that contain one of these are of that class of `scheduler.hardware`. An H200 counts as an H100: the same
# processor and the same 700 W with faster memory (NVIDIA's data sheets of both); what it learns online corrects it.
_CLASSES: Final = (("B200", "b200"), ("H100", "h100"), ("H200", "h100"), ("A100", "a100"))


class HostGpus:
    """GPUs in the driver's order; each has an index, a product name and a UUID."""

    def __init__(self, names: Sequence[str], uuids: Sequence[str] = ()) -> None:
        self._names = tuple(names)
        self._uuids = tuple(uuids)

    def indices(self) -> list[str]:
        return [str(index) for index in range(len(self._names))]

    def hardware_of(self, visible_devices: str | None) -> str:
        """The class of the GPUs that a worker sees (`CUDA_VISIBLE_DEVICES`; None is all of them).

        `unknown` where they differ, cannot be told, or have no class of their own.
        """
        wanted = self.indices() if not visible_devices else [part.strip() for part in visible_devices.split(",")]
        classes = {self._class_of(device) for device in wanted}
        return classes.pop() if len(classes) == 1 else UNKNOWN_HARDWARE

    def _class_of(self, device: str) -> str:
        if device.isdecimal() and int(device) < len(self._names):
            return hardware_class(self._names[int(device)])
        # CUDA takes a UUID by any unique beginning.
        matches = [
            name for name, uuid in zip(self._names, self._uuids, strict=False) if device and uuid.startswith(device)
        ]
        return hardware_class(matches[0]) if len(matches) == 1 else UNKNOWN_HARDWARE


def hardware_class(product_name: str) -> str:
    """The class of a GPU by its product name, `NVIDIA H100 80GB HBM3` say."""
    return next((found for part, found in _CLASSES if part in product_name.upper()), UNKNOWN_HARDWARE)


def list_gpus() -> HostGpus:
    """Ask the driver.

    Raises:
        StartError: the driver's tool is there and does not answer.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return HostGpus(())
    try:
        listing = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"nvidia-smi does not answer ({error}): mend the driver, or use --device cpu") from error
    return parse_gpus(listing.stdout) if listing.returncode == 0 else HostGpus(())


def parse_gpus(listing: str) -> HostGpus:
    """Read the output of `nvidia-smi -L`; a line that names no product still is a GPU."""
    names, uuids = [], []
    for line in listing.splitlines():
        if line.startswith("GPU "):
            found = _LINE.match(line)
            names.append(found[2] if found is not None else "")
            uuids.append(found[3] if found is not None else "")
    return HostGpus(names, uuids)
