"""Who takes part: the fake engine itself, Wattline in front of it, and the peers in front of it; all on loopback."""

import contextlib
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import child, free_port
from bench.overhead.peers import Peer, PeerPlace
from bench.overhead.production import production
from bench.overhead.settings import MODEL, OverheadSettings

DIRECT: Final = "direct"
WATTLINE: Final = "wattline"
_ENGINE_START_SECONDS: Final = 20.0
_CONTEXT_TOKENS: Final = 32_768


@dataclass(frozen=True, slots=True)
class Contender:
    """One server that answers. `headers` are complete header lines that its callers must send."""

    name: str
    url: str
    pid: int
    headers: tuple[str, ...] = ()
    switched_on: tuple[str, ...] = ()


@contextlib.contextmanager
def engine(
    settings: OverheadSettings,
    *,
    tokens_per_write: int = 1,
    decode_tokens_per_second: float = 0.0,
    max_model_len: int = _CONTEXT_TOKENS,
) -> Iterator[Contender]:
    """Runs the fake engine."""
    command = [sys.executable, "-m", "workers.fake", "--model", MODEL, "--die-with-parent"]
    command += ["--tokens-per-write", str(tokens_per_write)]
    command += ["--decode-tokens-per-second", str(decode_tokens_per_second), "--max-model-len", str(max_model_len)]
    with tempfile.TemporaryDirectory(prefix="wattline-") as folder:
        if settings.engine_socket == "unix":
            url = f"unix:{folder}/engine.sock"
            command += ["--uds", f"{folder}/engine.sock"]
        else:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            command += ["--port", str(port)]
        with child(command, url, "/health", _ENGINE_START_SECONDS) as pid:
            yield Contender(DIRECT, url, pid)


@contextlib.contextmanager
def wattline(
    settings: OverheadSettings, engine_url: str, *, tokens_per_second: float | None = None
) -> Iterator[Contender]:
    """Runs a fresh front end with all on that an operator would have on, unless the settings say `bare`."""
    with tempfile.TemporaryDirectory(prefix="wattline-bench-") as folder:
        setup = production(Path(folder), settings, tokens_per_second)
        port = free_port()
        known = {"{worker_url}": engine_url, "{port}": str(port), "{config}": str(setup.config)}
        command = [_filled_in(part, known) for part in settings.front_end_command]
        command += [*setup.arguments, *settings.front_end_args]
        url = f"http://127.0.0.1:{port}"
        with child(command, url, "/ready", settings.front_end_start_seconds) as pid:
            yield Contender(WATTLINE, url, pid, setup.headers, setup.switched_on)


@contextlib.contextmanager
def peers(chosen: Sequence[tuple[Peer, Path]], engine_url: str) -> Iterator[list[Contender]]:
    """Runs these peers, whose programs lie in these folders.

    Raises:
        ChildFailedError: one of them did not start.
    """
    with contextlib.ExitStack() as stack:
        running = []
        for peer, programs in chosen:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wattline-peer-")))
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            key = f"sk-{secrets.token_hex(32)}"
            command = peer.command(PeerPlace(programs, engine_url, port, folder, key))
            pid = stack.enter_context(child(command, url, peer.ready_path, peer.start_seconds))
            headers = (f"Authorization: Bearer {key}",) if peer.needs_key else ()
            running.append(Contender(peer.name, url, pid, headers))
        yield running


def _filled_in(part: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        part = part.replace(name, value)
    return part
