"""RAPL trees for tests: copies of those in tests/data/powercap, with counters that a test moves, breaks and forbids.

`intel` has two sockets with memory, a psys zone around them and the memory-mapped duplicate of the first; `amd` has one
socket and no memory; `hidden` is what is left in a Docker container: links to nowhere.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
TREES = REPOSITORY / "tests" / "data" / "powercap"
USUAL_RANGE_MICROJOULES = 262_143_328_850
TIMEOUT_SECONDS = 20

# Root reads every file by two capabilities (capabilities(7)), so a process without them is refused like any other user.
_WITHOUT_CAPABILITIES = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
if os.geteuid() == 0:
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            sys.exit("cannot drop a capability")
os.execv(sys.argv[1], sys.argv[1:])
"""


class PowercapTree:
    """A copy of a tree; `root` is what /sys/class/powercap is on a real machine."""

    def __init__(self, directory: Path, name: str = "intel") -> None:
        shutil.copytree(TREES / name, directory / name, symlinks=True)
        self.root = directory / name / "class" / "powercap"
        self.devices = directory / name / "devices" / "virtual" / "powercap"

    def set(self, zone: str, microjoules: int | str) -> None:
        """Replace the counter as a whole, so that nobody reads half of it."""
        file = (self.root / zone / "energy_uj").resolve()
        written = file.with_suffix(".new")
        written.write_text(f"{microjoules}\n")
        written.replace(file)

    def get(self, zone: str) -> int:
        return int((self.root / zone / "energy_uj").read_text())

    def forbid(self, zone: str) -> None:
        (self.root / zone / "energy_uj").chmod(0)


def run_unprivileged(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that may read only what its user may, even where these tests run as root."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "WATTLINE_", "ZEUSD_"))
    }
    return subprocess.run(
        [sys.executable, "-c", _WITHOUT_CAPABILITIES, *command],
        env={**inherited, "PYTHONPATH": str(REPOSITORY), **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def run_python_unprivileged(code: str, **environment: str) -> Any:
    """Run code that prints JSON in its last line."""
    process = run_unprivileged(sys.executable, "-W", "error", "-c", code, **environment)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])
