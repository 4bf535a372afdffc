"""The server that is scraped: tenants with keys, a budget that runs out, carbon, and an engine behind it all."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.children import PROJECT_FOLDER, ChildFailedError, child, free_port

_KEY_SECONDS: Final = 60.0
_READY_SECONDS: Final = 240.0  # converting and compiling a model included
_END_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 10.0
_TENANTS: Final = ("ops", "team-a", "team-b", "team-c")
_CONFIGURATION: Final = """\
ledger_url = "sqlite:///{folder}/ledger.db"
flex_wait_seconds = 2
slo_ttft_seconds = 2
slo_tpot_seconds = 0.5
log_level = "warning"

[carbon]
file = "{folder}/grid.csv"

[tenants.ops]
is_admin = true

[tenants.team-a]
energy_joules_per_day = 1e7
energy_joules_per_month = 1e8

[tenants.team-b]
requests_per_minute = 600
default_tier = "flex"

[tenants.team-c]
energy_joules_per_day = {small_budget_joules}
"""


@dataclass(frozen=True, slots=True)
class ScrapedServer:
    """A server that is ready. `keys` are those of its tenants; `ops` administrates."""

    url: str
    model: str
    keys: dict[str, str]

    @property
    def target(self) -> str:
        """As Prometheus names it."""
        return self.url.removeprefix("http://")

    def get(self, path: str) -> dict[str, Any]:
        """What the server answers an administrator.

        Raises:
            ChildFailedError: it does not answer.
        """
        request = urllib.request.Request(  # noqa: S310  # our own http://
            self.url + path, headers={"Authorization": f"Bearer {self.keys['ops']}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:  # noqa: S310  # likewise
                answer: dict[str, Any] = json.load(response)
                return answer
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise ChildFailedError(f"the server does not answer GET {path}: {error}") from error


@contextlib.contextmanager
def scraped_server(
    folder: Path, arguments: Sequence[str], engine_arguments: Sequence[str] = (), small_budget_joules: float = 0.5
) -> Iterator[ScrapedServer]:
    """Runs `wattline serve` with these arguments beside our configuration, for the time of the block.

    Raises:
        ChildFailedError: a key could not be made, or the server ended or was not ready in time.
    """
    began_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(minutes=30)
    (folder / "grid.csv").write_text(f"datetime,gco2eq_per_kwh\n{began_hour.isoformat()},380\n")
    config = folder / "wattline.toml"
    config.write_text(_CONFIGURATION.format(folder=folder, small_budget_joules=small_budget_joules))
    keys = _made_keys(f"sqlite:///{folder / 'ledger.db'}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "server", "serve", *arguments, "--config", str(config), "--port", str(port)]
    command += ["--meter", "estimate"]
    if engine_arguments:
        command += ["--", *engine_arguments]
    with child(command, url, "/ready", _READY_SECONDS, _END_SECONDS):
        server = ScrapedServer(url, "", keys)
        yield ScrapedServer(url, _first_model(server), keys)


@contextlib.contextmanager
def fake_engines(folder: Path, count: int = 2) -> Iterator[list[str]]:
    """Runs fake engines of forty tokens a second; yields their URLs."""
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(count):
            url = f"unix:{folder}/engine-{number}.sock"
            command = [sys.executable, "-m", "workers.fake", "--uds", url.removeprefix("unix:"), "--die-with-parent"]
            command += ["--decode-tokens-per-second", "40", "--prefill-tokens-per-second", "2000"]
            stack.enter_context(child(command, url, "/health", _KEY_SECONDS))
            urls.append(url)
        yield urls


def _first_model(server: ScrapedServer) -> str:
    deadline_seconds = time.monotonic() + _ANSWER_SECONDS
    while not (models := server.get("/v1/models")["data"]):
        if time.monotonic() > deadline_seconds:
            raise ChildFailedError("the server lists no model")
        time.sleep(0.1)
    name: str = models[0]["id"]
    return name


def _made_keys(ledger_url: str) -> dict[str, str]:
    """A key for each tenant. The first command also makes the database, so the others wait for it."""
    first, *others = _TENANTS
    made = {first: _printed(_start_making(first, ledger_url))}
    started = {tenant: _start_making(tenant, ledger_url) for tenant in others}
    return made | {tenant: _printed(process) for tenant, process in started.items()}


def _start_making(tenant: str, ledger_url: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "server", "keys", "create", "--tenant", tenant, "--name", "proof"]
    return subprocess.Popen(
        [*command, "--ledger", ledger_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT_FOLDER,
    )


def _printed(process: "subprocess.Popen[str]") -> str:
    try:
        output, complaint = process.communicate(timeout=_KEY_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise ChildFailedError(f"no key was made in {_KEY_SECONDS:.0f} s") from None
    if process.returncode:
        raise ChildFailedError(f"no key could be made: {complaint.strip()}")
    return output.strip()
