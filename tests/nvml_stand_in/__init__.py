"""NVIDIA GPUs for tests on machines that have none: a C library under NVML's name, below the real nvidia-ml-py.

The library is found through LD_LIBRARY_PATH, which the loader reads once when a process starts; so the code under test
runs in a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("nvml_stand_in.c")
CONTROL_KEY = "WATTLINE_NVML_STAND_IN"
PREAMBLE = f"""
import json, os, sys, time
from pathlib import Path

def gpus(*lines):
    written = Path(os.environ["{CONTROL_KEY}"] + ".new")
    written.write_text("\\n".join(lines) + "\\n")
    written.replace(os.environ["{CONTROL_KEY}"])

def tell(answer):
    print(json.dumps(answer))
"""
TIMEOUT_SECONDS = 20


class NvmlStandIn:
    """A directory with the compiled library and its control file."""

    def __init__(self, directory: Path) -> None:
        """Compile the library, or skip the test where no C compiler is present."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler (cc, gcc or clang) on this machine, so the NVML stand-in cannot be built")
        self._directory = directory
        library = directory / "libnvidia-ml.so.1"
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS)

    def run(self, *gpus: str, code: str, **environment: str) -> Any:
        """Run Python code over these GPUs (one control line each) and give back what it passed to `tell`.

        The code may call `gpus(*lines)` to change them. `environment` is added to this process's own.
        """
        control = self._directory / "gpus.txt"
        control.write_text("\n".join(gpus) + "\n")
        return run_python(PREAMBLE + code, self._directory, {**environment, CONTROL_KEY: str(control)})


def run_python(code: str, library_directory: Path, environment: dict[str, str]) -> Any:
    """Run code in a process that looks for NVML in `library_directory` first; its last line of output is JSON."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "WATTLINE_"))}
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**inherited, "LD_LIBRARY_PATH": str(library_directory), "PYTHONPATH": str(REPOSITORY), **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])
