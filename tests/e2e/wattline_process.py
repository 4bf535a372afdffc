"""A `wattline serve` as an operator starts it, and what it says of itself over HTTP."""

import os
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.process_tree import EngineProcesses, ProcessKey, alive, engines_of, tree_of, wait_until_gone

READY_SECONDS = 240.0
STOP_SECONDS = 15.0
WATTLINE = Path(sysconfig.get_path("scripts")) / "wattline"

MICROJOULES_PER_JOULE = 1_000_000
REQUEST_ACCOUNTS = ("prefill", "decode")


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without settings of ours that whoever runs the tests may have made, but for the model cache."""
    return {key: value for key, value in environ.items() if not key.startswith("WATTLINE_") or key.endswith("_DIR")}


def microjoules(joules: float) -> int:
    """Reported joules carry six decimals, so this is exact."""
    return round(joules * MICROJOULES_PER_JOULE)


class Metrics:
    """One scrape of `/metrics`."""

    def __init__(self, page: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of that name with these labels."""
        return sum(self.series(name, **labels).values())

    def series(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Every series of that name with these labels, by all of its labels."""
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def accounts_microjoules(self) -> dict[str, int]:
        """Energy by account, over all workers and components."""
        accounts: dict[str, int] = {}
        for labels, joules in self.series("wattline_energy_joules_total").items():
            account = dict(labels)["account"]
            accounts[account] = accounts.get(account, 0) + microjoules(joules)
        return accounts


class WattlineProcess:
    """A running server. It is started in a session of its own; `stop` or `kill` ends it.

    `settings` are variables for it beside those that whoever runs the tests may have set for other servers.
    """

    def __init__(
        self,
        log_path: Path,
        arguments: list[str],
        engine_arguments: list[str],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log_path = log_path
        command = [str(WATTLINE), "serve", "--port", str(port), "--meter", "estimate", *arguments]
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--", *engine_arguments],
                env=clean_environ(os.environ) | dict(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        """All it has printed."""
        return self.log_path.read_text(errors="replace")

    # -- over HTTP -----------------------------------------------------------------------------------------------

    def ready_status(self) -> int:
        return self._get("/ready").status_code

    def worker_states(self) -> list[str]:
        return [worker["state"] for worker in self._get("/ready").json()["workers"]]

    def scheduler(self) -> dict[str, Any]:
        """`GET /v1/scheduler`."""
        page = self._get("/v1/scheduler")
        assert page.status_code == 200
        report: dict[str, Any] = page.json()
        return report

    def metrics(self) -> Metrics:
        page = self._get("/metrics")
        assert page.status_code == 200
        return Metrics(page.text)

    def worker_energy(self) -> dict[str, Any]:
        """`GET /energy` of its only engine, asked on the engine's own socket."""
        (engine,) = self.engines()
        return engine_energy(engine.socket_path)

    def wait_ready(self, workers: int = 1) -> float:
        """Wait until all its workers can serve; returns after how many seconds they could. Fails the test otherwise."""
        started = time.monotonic()
        while time.monotonic() - started < READY_SECONDS:
            if (code := self._process.poll()) is not None:
                pytest.fail(f"the server ended with exit code {code}:\n{self.log()}")
            try:
                if self.worker_states() == ["ready"] * workers:
                    return time.monotonic() - started
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        pytest.fail(f"the server was not ready after {READY_SECONDS:.0f} s:\n{self.log()}")

    def _get(self, path: str) -> httpx.Response:
        # Reading the certificate store, useless here, takes longer than all the rest.
        return httpx.get(self.url + path, timeout=10, verify=False)

    # -- processes -----------------------------------------------------------------------------------------------

    def engines(self) -> list[EngineProcesses]:
        return engines_of(self.pid)

    def tree(self) -> set[ProcessKey]:
        return tree_of(self.pid)

    def stop(self) -> float:
        """Ctrl-C: asserts exit code 0 in time and that nothing is left; returns how many seconds it took."""
        tree, engines = self.tree(), self.engines()
        started = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the server still runs {STOP_SECONDS:.0f} s after Ctrl-C:\n{self.log()}")
        seconds = time.monotonic() - started
        assert code == 0, self.log()
        assert not alive(tree), f"left behind: {alive(tree)}\n{self.log()}"
        assert not [engine.socket_path.parent for engine in engines if engine.socket_path.parent.exists()]
        return seconds

    def kill(self) -> None:
        """SIGKILL to the front end alone."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def discard(self) -> None:
        """Whatever happened, leave nothing running. Does nothing after a `stop`."""
        if self._process.poll() is None:
            tree = self.tree()
            self.kill()
            wait_until_gone(tree, STOP_SECONDS)


def engine_energy(socket_path: Path) -> dict[str, Any]:
    """`GET /energy` on an engine's unix socket."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_path), verify=False), timeout=10) as client:
        report: dict[str, Any] = client.get("http://engine/energy").json()
        return report


def parts_microjoules(report: dict[str, Any]) -> int:
    """The left side of the conservation law: accounts and what is in flight, over all components."""
    accounts = sum(sum(part.values()) for part in report["accounts_microjoules"].values())
    in_flight = sum(sum(part.values()) for part in report["in_flight_microjoules"].values())
    return int(accounts + in_flight)


def counter_microjoules(report: dict[str, Any]) -> int:
    """The right side: the counter, and what was booked ahead of its next reading."""
    return int(report["counter_microjoules"] + report["extrapolated_microjoules"])
