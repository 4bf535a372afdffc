"""LiteLLM's client functions towards an OpenAI-compatible server, without a look at its price list on the net."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.energy_blocks import check_energy
from tests.e2e.wattline_process import WattlineProcess, microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def called(server: WattlineProcess) -> dict[str, Any]:
    """What became of its calls, made in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.litellm_calls", server.url],
        # By default its import fetches the prices of all models.
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results


@pytest.mark.client("litellm", "completion", "`response.energy`, header `llm_provider-x-energy-joules`")
def test_completion(called: dict[str, Any]) -> None:
    energy = called["energy"]
    check_energy(energy)
    assert energy["output_tokens"] == called["output_tokens"]
    joules = float(called["headers"]["llm_provider-x-energy-joules"])
    assert microjoules(joules) == microjoules(energy["energy_joules"])


@pytest.mark.client("litellm", "completion stream", "not readable: the client drops comments and unknown keys")
def test_stream(called: dict[str, Any]) -> None:
    assert called["streamed_text"]
    assert called["streamed_tokens"] == 8
    assert called["streamed_energy"] == [], "it has become readable: say so in docs/clients.md"


@pytest.mark.client("litellm", "unknown model: NotFoundError")
def test_unknown_model(called: dict[str, Any]) -> None:
    assert "no-such-model" in called["refusal"]
