"""The meter alone: a stock vLLM server, told of the middleware on its command line, and nothing else of Wattline."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.figures import show
from tests.e2e.process_tree import tree_of, wait_until_gone
from tests.e2e.wattline_process import (
    READY_SECONDS,
    Metrics,
    clean_environ,
    counter_microjoules,
    engine_energy,
    microjoules,
    parts_microjoules,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


PROMPT = {"model": "smollm2", "prompt": "One, two,", "max_tokens": 12, "ignore_eos": True}


@dataclass(frozen=True, slots=True)
class StandAlone:
    """A vLLM server with our meter in it."""

    client: httpx.Client
    socket_path: Path


@pytest.fixture(scope="module")
def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandAlone]:
    log_path = tmp_path_factory.mktemp("stand_alone") / "output.log"
    with tempfile.TemporaryDirectory(prefix="wattline-e2e-") as folder:  # short: a socket's path has 107 bytes
        socket_path = Path(folder) / "engine.sock"
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(checkpoint), "--served-model-name", "smollm2", "--uds", str(socket_path)]
        command += ["--middleware", "metering.vllm_plugin.EnergyMiddleware", "--enable-logging-iteration-details"]
        command += ["--enforce-eager", "--max-model-len", "1024"]
        environ = clean_environ(os.environ) | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
        assert "WATTLINE_METER" not in environ
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            transport = httpx.HTTPTransport(uds=str(socket_path))
            with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
                wait_listening(process, socket_path, log_path)
                yield StandAlone(client, socket_path)
        finally:
            end(process)


def wait_listening(process: subprocess.Popen[bytes], socket_path: Path, log_path: Path) -> None:
    """vLLM listens once its engine is ready."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(socket_path)) == 0:
                return
        time.sleep(0.25)
    pytest.fail(f"vLLM is not ready (exit code {process.poll()}):\n{log_path.read_text(errors='replace')[-8000:]}")


def end(process: subprocess.Popen[bytes]) -> None:
    tree = tree_of(process.pid) if process.poll() is None else set()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(15)
    for left in wait_until_gone(tree, 5):
        os.kill(left.pid, signal.SIGKILL)


def test_answers_carry_their_energy(engine: StandAlone) -> None:
    whole = engine.client.post("/v1/completions", json=PROMPT)
    energy = whole.json()["energy"]
    assert energy["energy_joules"] > 0
    assert energy["output_tokens"] == 12
    parts = microjoules(energy["prefill_joules"]) + microjoules(energy["decode_joules"])
    assert parts == microjoules(energy["energy_joules"]) == microjoules(float(whole.headers["X-Energy-Joules"]))
    assert energy["measured"] is (energy["source"] != "estimate")

    streamed = engine.client.post("/v1/completions", json=PROMPT | {"stream": True}).text
    assert streamed.split("\n\n")[-3].startswith(': energy {"energy_joules":')


def test_report_adds_up_and_metrics_say_the_same(engine: StandAlone) -> None:
    engine.client.post("/v1/completions", json=PROMPT)
    before = engine_energy(engine.socket_path)
    page = Metrics(engine.client.get("/metrics").text)
    after = engine_energy(engine.socket_path)
    for report in (before, after):
        assert parts_microjoules(report) == counter_microjoules(report)
    accounts = page.accounts_microjoules()
    show(f"accounts in microjoules: {accounts}")
    assert set(accounts) == {"prefill", "decode", "idle", "loading", "unattributed"}
    assert min(accounts["prefill"], accounts["decode"], accounts["idle"]) > 0
    assert parts_microjoules(before) <= sum(accounts.values()) <= parts_microjoules(after)
    assert page.total("vllm:request_success_total") > 0  # vLLM's own families are still there
