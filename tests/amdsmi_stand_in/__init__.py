"""AMD GPUs for tests on machines that have none: a C library under AMD SMI's name, below the real amdsmi and zeus.

`amdsmi` looks for it in ROCM_PATH when it is first imported; so the code under test runs in a process of its own.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("amdsmi_stand_in.c")
CONTROL_KEY = "WATTLINE_AMDSMI_STAND_IN"
PREAMBLE = f"""
import json, os, sys, time
from pathlib import Path

def gpus(*lines):
    Path(os.environ["{CONTROL_KEY}"]).write_text("\\n".join(lines) + "\\n")

def tell(answer):
    print(json.dumps(answer))
"""
TIMEOUT_SECONDS = 20


class AmdsmiStandIn:
    """A directory that is ROCm's, with the compiled library and its control file."""

    def __init__(self, directory: Path) -> None:
        """Compile the library, or skip the test where that or the real amdsmi is impossible."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler (cc, gcc or clang) on this machine, so the AMD SMI stand-in cannot be built")
        self.rocm_path = directory
        self._control = directory / "gpus.txt"
        stubs = directory / "stubs.c"
        stubs.write_text(_stubs())
        library = directory / "lib" / "libamd_smi.so"
        library.parent.mkdir()
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library)]
        subprocess.run([*command, str(SOURCE), str(stubs)], check=True, timeout=TIMEOUT_SECONDS)

    def run(self, *gpus: str, code: str, **environment: str) -> Any:
        """Run Python code over these GPUs (one control line each) and give back what it passed to `tell`."""
        self._control.write_text("\n".join(gpus) + "\n")
        hidden = ("CUDA_", "HIP_", "ROC", "WATTLINE_", "ZEUSD_")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        paths = {CONTROL_KEY: str(self._control), "ROCM_PATH": str(self.rocm_path), "PYTHONPATH": str(REPOSITORY)}
        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", PREAMBLE + code],
            env={**inherited, **paths, **environment},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout.splitlines()[-1])


def _stubs() -> str:
    """Write the functions that the real amdsmi wants of the library when it is imported, and that nobody calls."""
    try:
        files = importlib.metadata.files("amdsmi") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the Python package amdsmi is not installed, so the AMD SMI stand-in has nothing above it")
    (wrapper,) = [Path(str(file.locate())) for file in files if file.name == "amdsmi_wrapper.py"]
    wanted = set(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper.read_text()))
    implemented = set(re.findall(r"^int (amdsmi_\w+)\(", SOURCE.read_text(), re.MULTILINE))
    not_supported = 2
    return "".join(f"int {name}(void) {{ return {not_supported}; }}\n" for name in sorted(wanted - implemented))
