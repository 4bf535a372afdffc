"""The kernel's tree of RAPL energy counters: which zones there are, what they are called, and why one cannot be read.

Knows sysfs (https://docs.kernel.org/power/powercap/powercap.html), and nothing of counters or components. Under
/sys/class/powercap every zone is a link to a folder of nested zones; a container that mounts the host's tree may see
the folders only. Both are walked, and each zone is found once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

RAPL_ROOT_KEY = "WATTLINE_RAPL_ROOT"
DEFAULT_ROOT = Path("/sys/class/powercap")
# The register interface or its successor TPMI (the kernel gives both this name), and the memory-mapped interface of
# some client processors, which shows the same packages once more and is read only where it is alone.
CONTROL_TYPES = ("intel-rapl", "intel-rapl-mmio")

# Docker hides the tree's folders (GHSA-jq35-85cj-fj4p), but not under another name.
MOUNT = f"-v /sys/devices/virtual/powercap:/host/powercap:ro -e {RAPL_ROOT_KEY}=/host/powercap"
_FILES = "/sys/class/powercap/intel-rapl:*/energy_uj"
_UDEV_RULE = (
    'SUBSYSTEM=="powercap", ACTION=="add", KERNEL=="intel-rapl:*", '
    'RUN+="/bin/chgrp GROUP /sys%p/energy_uj", RUN+="/bin/chmod g+r /sys%p/energy_uj"'
)
_CAPABILITY = (
    "give the process a capability: AmbientCapabilities=CAP_DAC_READ_SEARCH in a systemd unit, or setcap "
    "cap_dac_read_search=ep PYTHON, after which whatever runs in that Python reads every file of the machine"
)
ACCESS_REMEDIES = (
    f"until the next boot, let a group of yours read it: sudo chgrp GROUP {_FILES} && sudo chmod g+r {_FILES}",
    f"for good, the same in /etc/udev/rules.d/70-rapl.rules: {_UDEV_RULE}",
    _CAPABILITY,
    f"in a container, do one of these on the host, and mount the host's tree: docker run {MOUNT}",
    "have zeusd read it: pip install wattline[zeus], sudo zeusd serve --enable cpu-read, and set ZEUSD_SOCK_PATH",
)


@dataclass(frozen=True, slots=True)
class PowerZone:
    """A zone such as `intel-rapl:0:1`, and what the kernel calls it: `package-0`, `core`, `uncore`, `dram`, `psys`."""

    identifier: str
    name: str
    directory: Path

    @property
    def parent_identifier(self) -> str:
        """The zone that contains this one; for a zone at the top its control type."""
        return self.identifier.rpartition(":")[0]


def powercap_root(environ: Mapping[str, str]) -> Path:
    """Where the tree is: `WATTLINE_RAPL_ROOT`, or the kernel's own place."""
    return Path(environ.get(RAPL_ROOT_KEY) or DEFAULT_ROOT)


def find_zones(root: Path) -> list[PowerZone]:
    """List the RAPL zones, by identifier, of the one interface that shows them.

    Raises:
        SourceUnavailableError: there are none, or they are hidden from this process.
    """
    for control_type in CONTROL_TYPES:
        directories = _zone_directories(root, control_type)
        if directories:
            return [_zone(identifier, directories[identifier]) for identifier in sorted(directories, key=_place)]
    raise SourceUnavailableError(
        f"no RAPL energy counters in {root}; virtual machines rarely have any",
        (
            "on a real x86 machine load the kernel's driver: sudo modprobe intel_rapl_msr (on AMD too)",
            f"in a container, mount the host's tree: docker run {MOUNT}",
        ),
    )


def _zone_directories(root: Path, control_type: str) -> dict[str, Path]:
    belongs = re.compile(rf"{control_type}(:\d+)*")
    found: dict[str, Path] = {}
    waiting = [root]
    while waiting:
        for entry in _entries(waiting.pop()):
            if belongs.fullmatch(entry.name) and entry.name not in found:
                found[entry.name] = entry
                waiting.append(entry)
    found.pop(control_type, None)  # the interface itself is no zone
    return found


def _entries(directory: Path) -> list[Path]:
    """Give what the folder holds; nothing where it is missing, hidden or closed to us, which its zones will tell."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _place(identifier: str) -> list[int]:
    return [int(number) for number in identifier.split(":")[1:]]


def _zone(identifier: str, directory: Path) -> PowerZone:
    try:
        return PowerZone(identifier, (directory / "name").read_text().strip(), directory)
    except FileNotFoundError as problem:
        raise SourceUnavailableError(
            f"{directory} is listed, but what it points to is hidden from this process, as Docker hides it",
            (f"mount the host's tree under another name: docker run {MOUNT}",),
        ) from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise SourceUnavailableError(f"cannot read {directory / 'name'}: {_why(problem)}", ACCESS_REMEDIES) from problem


def read_microjoules(path: Path) -> int:
    """Read one attribute of a zone.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no whole number of at least 0.
    """
    text = path.read_text(encoding="ascii").strip()
    if not text.isdecimal():
        message = f"{path} holds {text[:40]!r}: expected whole microjoules"
        raise ValueError(message)
    return int(text)


def explain_unreadable(path: Path, problem: OSError | ValueError) -> SourceUnavailableError:
    """Say why an attribute cannot be read, and how its reader gets access."""
    if isinstance(problem, PermissionError):
        reason = f"cannot read {path}: {problem.strerror}; since CVE-2020-8694 only root may"
        return SourceUnavailableError(reason, ACCESS_REMEDIES)
    return SourceUnavailableError(f"cannot read {path}: {_why(problem)}")


def _why(problem: OSError | ValueError) -> str:
    return (problem.strerror or str(problem)) if isinstance(problem, OSError) else str(problem)
