"""A stock vLLM server with our meter in it and nothing else of Wattline, with arguments of the test's choice."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.process_tree import tree_of, wait_until_gone
from tests.e2e.wattline_process import READY_SECONDS, clean_environ
from workers.cpu_dtype import dtype_arguments


@dataclass(frozen=True, slots=True)
class StandAlone:
    """The server's client and socket."""

    client: httpx.Client
    socket_path: Path


@contextlib.contextmanager
def stand_alone_engine(checkpoint: Path, log_path: Path, arguments: Sequence[str] = ()) -> Iterator[StandAlone]:
    """Start it, wait until it listens, and end it and everything it started."""
    with tempfile.TemporaryDirectory(prefix="wattline-e2e-") as folder:  # short: a socket's path has 107 bytes
        socket_path = Path(folder) / "engine.sock"
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(checkpoint), "--served-model-name", "smollm2", "--uds", str(socket_path)]
        command += ["--middleware", "metering.vllm_plugin.EnergyMiddleware", "--enable-logging-iteration-details"]
        command += ["--enforce-eager", "--max-model-len", "1024", *dtype_arguments(), *arguments]
        environ = clean_environ(os.environ) | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
        assert "WATTLINE_METER" not in environ
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            transport = httpx.HTTPTransport(uds=str(socket_path))
            with httpx.Client(transport=transport, base_url="http://engine", timeout=100) as client:
                _wait_listening(process, socket_path, log_path)
                yield StandAlone(client, socket_path)
        finally:
            _end(process)


def _wait_listening(process: subprocess.Popen[bytes], socket_path: Path, log_path: Path) -> None:
    """vLLM listens once its engine is ready."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(socket_path)) == 0:
                return
        time.sleep(0.25)
    pytest.fail(f"vLLM is not ready (exit code {process.poll()}):\n{log_path.read_text(errors='replace')[-8000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    tree = tree_of(process.pid) if process.poll() is None else set()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)
    for left in wait_until_gone(tree, 5):
        os.kill(left.pid, signal.SIGKILL)
