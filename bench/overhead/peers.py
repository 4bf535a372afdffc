"""The servers we are compared with, each in a virtual environment of its own that is made when first asked for.

None of them shares our environment: their requirements are not ours, and ours must not decide how fast they are.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import free_port
from bench.overhead.settings import MODEL

_INSTALL_SECONDS: Final = 900.0
_COMPLETE: Final = ".complete"
_SHOWN_CHARACTERS: Final = 300  # of a failing tool's output: its last words say what went wrong

LITELLM_CONFIG: Final = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "{engine_url}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
general_settings: {{master_key: {key}}}
"""


class PeerUnavailableError(RuntimeError):
    """A peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare with. It is started as it comes, in one process, without limits or records of requests.

    `command` gets where it is to be started. One that `needs_key` does not start without a key of its callers.
    """

    name: str
    distribution: str
    version: str
    extra: str
    ready_path: str
    start_seconds: float
    needs_key: bool
    command: Callable[["PeerPlace"], list[str]]

    @property
    def requirement(self) -> str:
        return f"{self.distribution}{self.extra}=={self.version}"


@dataclass(frozen=True, slots=True)
class PeerPlace:
    """The folder of its programs, the engine it is put in front of, its port, a folder to write to, and its key."""

    programs: Path
    engine_url: str
    port: int
    folder: Path
    key: str


def _vllm_router_command(place: PeerPlace) -> list[str]:
    command = [str(place.programs / "vllm-router"), "--worker-urls", place.engine_url, "--policy", "round_robin"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    return [*command, "--host", "127.0.0.1", "--port", str(place.port), "--log-level", "error"]


def _litellm_command(place: PeerPlace) -> list[str]:
    config = place.folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(model=MODEL, engine_url=place.engine_url, key=place.key))
    # Its table of prices is fetched from the network at every start unless it is told to use the one it brings.
    command = ["env", "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_LOG=ERROR", str(place.programs / "litellm")]
    return [*command, "--config", str(config), "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]


_VLLM_ROUTER: Final = Peer(
    "vllm-router", "vllm-router", "0.1.17", "", "/health", 60.0, needs_key=False, command=_vllm_router_command
)
_LITELLM: Final = Peer(
    "litellm", "litellm", "1.108.7", "[proxy]", "/health/readiness", 120.0, needs_key=True, command=_litellm_command
)
PEERS: Final[Mapping[str, Peer]] = {peer.name: peer for peer in (_VLLM_ROUTER, _LITELLM)}


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where environments are kept: `WATTLINE_CACHE_DIR`, else Wattline's folder in the user's cache."""
    if own := environ.get("WATTLINE_CACHE_DIR"):
        return Path(own)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wattline"


def programs_of(peer: Peer, cache: Path) -> Path:
    """The folder of the peer's programs, installed if they are not there yet.

    Raises:
        PeerUnavailableError: it cannot be installed: no package index in reach, or no build for this machine.
    """
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache / "peers" / f"{peer.name}-{peer.version}-{python}"
    if (folder / _COMPLETE).exists():
        return folder / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = _uv()
    _run([uv, "venv", "-q", "--python", sys.executable, str(folder)], peer)
    _run([uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), peer.requirement], peer)
    (folder / _COMPLETE).touch()
    return folder / "bin"


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise PeerUnavailableError("uv, which makes its environment, is neither beside this Python nor on the PATH")
    return found


def _run(command: list[str], peer: Peer) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailableError(f"{peer.requirement} cannot be installed: {error}") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-_SHOWN_CHARACTERS:]
        raise PeerUnavailableError(f"{peer.requirement} cannot be installed: {said}")
