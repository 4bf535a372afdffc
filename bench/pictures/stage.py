"""A server with tenants, keys and budgets for the pictures: over the real engine, or over two fake ones."""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import PROJECT_FOLDER, child, free_port
from bench.pictures import terminal
from bench.pictures.traffic import Caller

_READY_SECONDS: Final = 300.0
_USUAL_PORT: Final = 8000
_CONFIG: Final = """\
ledger_url = "{ledger}"
min_workers = {workers}

[tenants.operations]
is_admin = true

[tenants.research]
energy_joules_per_day = 900.0

[tenants.support]
energy_joules_per_month = 2000.0

[tenants.night-batch]
default_tier = "flex"
max_tier = "flex"
"""
_FAKE: Final = ("--decode-tokens-per-second", "30", "--idle-watts", "24", "--active-watts", "70")


@dataclass(frozen=True, slots=True)
class Stage:
    """A running server; `terminal` is where it runs, None where this machine has none."""

    url: str
    admin_key: str
    callers: dict[int, Caller]
    terminal: terminal.Terminal | None


@contextlib.contextmanager
def stage(*, is_fake: bool) -> Iterator[Stage]:
    """Sets everything up, and ends it all however the block ends."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ledger = f"sqlite:///{folder / 'ledger.db'}"
        config = folder / "wattline.toml"
        # In a terminal the server runs in that folder, and so shows no path of this machine.
        shown_ledger = "sqlite:///ledger.db" if terminal.is_there() else ledger
        config.write_text(_CONFIG.format(ledger=shown_ledger, workers=2 if is_fake else 1), encoding="utf-8")
        keys = {tenant: _make_key(tenant, ledger) for tenant in ("operations", "research", "support", "night-batch")}
        port = _port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "server", "serve", "--config", str(config), "--port", str(port)]
        if is_fake:
            for number in range(2):
                uds = f"{folder}/engine-{number}"
                engine = [sys.executable, "-m", "workers.fake", "--uds", uds, *_FAKE]
                stack.enter_context(child(engine, f"unix:{uds}", "/health", _READY_SECONDS))
                command += ["--worker-url", f"unix:{uds}"]
        shown = None
        if terminal.is_there():
            name_of_socket = f"wattline-pictures-{port}"
            shown = stack.enter_context(terminal.terminal(name_of_socket, command, folder, url, _READY_SECONDS))
        else:
            stack.enter_context(child(command, url, "/ready", _READY_SECONDS, end_seconds=20.0))
        yield Stage(url, keys["operations"], _callers(keys), shown)


def _port() -> int:
    """The one that everybody knows from the documentation, if it is free."""
    with socket.socket() as probe:
        return _USUAL_PORT if probe.connect_ex(("127.0.0.1", _USUAL_PORT)) else free_port()


def _make_key(tenant: str, ledger: str) -> str:
    command = [sys.executable, "-m", "server", "keys", "create", "--tenant", tenant, "--name", "pictures", "--json"]
    made = subprocess.run(
        [*command, "--ledger", ledger], check=True, stdout=subprocess.PIPE, text=True, cwd=PROJECT_FOLDER
    )
    return str(json.loads(made.stdout)["key"])


def _callers(keys: dict[str, str]) -> dict[int, Caller]:
    return {
        1: Caller(keys["research"], "default", 4.0),
        2: Caller(keys["research"], "default", 9.0),
        3: Caller(keys["support"], "priority", 6.0),
        4: Caller(keys["night-batch"], "flex", 3.0),
    }
