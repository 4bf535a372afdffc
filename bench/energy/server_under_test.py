"""A `wattline serve` of two or more engines on the CPU, as an operator starts it, for the time of one run."""

import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.children import ChildFailedError, child, free_port
from bench.energy.cpu_time import engine_sockets

# Compiling, converting and a busy machine included; two engines on a core each take 20 to 40 s.
_READY_SECONDS: Final = 240.0
# The server promises to be gone 15 s after it was told to stop.
_END_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.25
_ANSWER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is started with; `model` is what `wattline serve` takes."""

    model: str = "smollm2"
    workers: int = 2
    min_workers: int = 1
    meter: str = "auto"
    slo_ttft_seconds: float = 5.0
    slo_tpot_seconds: float = 0.5
    # The same prompts come again in a run that is repeated, and must not be found in a cache.
    engine_args: tuple[str, ...] = ("--no-enable-prefix-caching",)


@dataclass(frozen=True, slots=True)
class ServerUnderTest:
    """A server all of whose engines are ready."""

    url: str
    pid: int
    model: str
    start_seconds: float

    def engine_sockets(self) -> list[Path]:
        return engine_sockets(self.pid)


@contextlib.contextmanager
def server_under_test(settings: ServerSettings, policy: str) -> Iterator[ServerUnderTest]:
    """Starts a server under a policy and ends it, with all its engines, however the block ends.

    Raises:
        ChildFailedError: it ended, or not all its engines were ready in time.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    began_at_seconds = time.monotonic()
    with child(_command(settings, policy, port), url, "/ready", _READY_SECONDS, _END_SECONDS) as pid:
        _wait_for_all(url, settings.workers)
        model = _get(url, "/v1/models")["data"][0]["id"]
        yield ServerUnderTest(url, pid, model, time.monotonic() - began_at_seconds)


def _command(settings: ServerSettings, policy: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "server", "serve", settings.model, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(settings.workers), "--min-workers", str(settings.min_workers), "--device", "cpu"]
    command += ["--policy", policy, "--meter", settings.meter, "--log-level", "warning"]
    command += ["--slo-ttft-seconds", str(settings.slo_ttft_seconds)]
    command += ["--slo-tpot-seconds", str(settings.slo_tpot_seconds)]
    return [*command, "--", *settings.engine_args]


def _wait_for_all(url: str, workers: int) -> None:
    deadline_seconds = time.monotonic() + _READY_SECONDS
    states: list[str] = []
    while time.monotonic() < deadline_seconds:
        states = [worker["state"] for worker in _get(url, "/ready")["workers"]]
        if states == ["ready"] * workers:
            return
        time.sleep(_POLL_SECONDS)
    raise ChildFailedError(f"not all engines were ready in time: {', '.join(states)}")


def _get(url: str, path: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url + path, timeout=_ANSWER_SECONDS) as response:  # noqa: S310  # our own http://
            answer: dict[str, Any] = json.load(response)
            return answer
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise ChildFailedError(f"the server does not answer GET {path}: {error}") from error
