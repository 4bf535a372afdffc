"""NVIDIA GPUs for tests on machines that have none: a C library under NVML's name, below the real nvidia-ml-py.

The library is found through LD_LIBRARY_PATH, which the loader reads once when a process starts; so the code under test
runs in a process of its own. What the GPUs do is scripted in a file that may change meanwhile, and the library keeps
books of what they spent and showed: both are explained at the head of nvml_stand_in.c.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nvml_stand_in.books import ProcessBooks, read_books

REPOSITORY = Path(__file__).parents[2]
SOURCES = tuple(sorted(Path(__file__).parent.glob("*.c")))
CONTROL_KEY = "WATTLINE_NVML_STAND_IN"
BOOKS_KEY = "WATTLINE_NVML_STAND_IN_BOOKS"
PREAMBLE = f"""
import json, os, sys, time
from pathlib import Path

def gpus(*lines):
    written = Path(os.environ["{CONTROL_KEY}"] + ".new")
    written.write_text("\\n".join(lines) + "\\n")
    written.replace(os.environ["{CONTROL_KEY}"])

def books():
    return json.loads(Path(os.environ["{BOOKS_KEY}"], f"{{os.getpid()}}.json").read_text())

def tell(answer):
    print(json.dumps(answer))
"""
TIMEOUT_SECONDS = 20


class NvmlStandIn:
    """A directory with the compiled library, its script (`gpus.txt`) and the books of the processes that use it.

    A process needs nothing but `library_directory` on its LD_LIBRARY_PATH: the library finds both beside itself.
    """

    def __init__(self, directory: Path) -> None:
        """Compile the library, or skip the test where no C compiler is present."""
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler (cc, gcc or clang) on this machine, so the NVML stand-in cannot be built")
        self.library_directory = directory
        self._control = directory / "gpus.txt"
        self._books = directory / "books"
        self._books.mkdir(exist_ok=True)
        library = directory / "libnvidia-ml.so.1"
        command = [compiler, "-shared", "-fPIC", "-pthread", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library)]
        command += [*map(str, SOURCES), "-lm", "-ldl"]
        subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS)

    def script(self, *lines: str) -> None:
        """Replace the script: a line for each GPU, `library ...` and `at SECONDS gpu=INDEX ...`."""
        written = self._control.with_suffix(".new")
        written.write_text("\n".join(lines) + "\n")
        written.replace(self._control)

    def books(self) -> list[ProcessBooks]:
        """What every process that asked for energy has on its books."""
        return read_books(self._books)

    def run(self, *gpus: str, code: str, **environment: str) -> Any:
        """Run Python code over these GPUs (one control line each) and give back what it passed to `tell`.

        The code may call `gpus(*lines)` to change them and `books()` for its own books. `environment` is added to this
        process's own.
        """
        self.script(*gpus)
        paths = {CONTROL_KEY: str(self._control), BOOKS_KEY: str(self._books)}
        return run_python(PREAMBLE + code, self.library_directory, {**environment, **paths})


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
