"""LiteLLM's client functions towards an OpenAI-compatible server, without a look at its price list on the net."""

from types import ModuleType
from typing import Any

import pytest

from tests.e2e.energy_blocks import check_energy
from tests.e2e.wattline_process import WattlineProcess, microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HELLO = [{"role": "user", "content": "Say hello to Ada."}]


@pytest.fixture
def litellm(loopback_only: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imported where its prices are read from the package; by default the import itself fetches them."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # noqa: PLC0415  # the variable must be set before

    monkeypatch.setattr(litellm, "telemetry", False)
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    return litellm


def options(server: WattlineProcess, **more: Any) -> dict[str, Any]:
    api = {"api_base": f"{server.url}/v1", "api_key": "unused", "num_retries": 0, "timeout": 120}
    return {"model": "openai/smollm2", "messages": HELLO, "max_tokens": 8} | api | more


@pytest.mark.client("litellm", "completion", "`response.energy`, header `llm_provider-x-energy-joules`")
def test_completion(server: WattlineProcess, litellm: ModuleType) -> None:
    answer = litellm.completion(**options(server))
    check_energy(answer.energy)
    assert answer.usage.completion_tokens == answer.energy["output_tokens"]
    headers = answer._hidden_params["additional_headers"]
    joules = float(headers["llm_provider-x-energy-joules"])
    assert microjoules(joules) == microjoules(answer.energy["energy_joules"])


@pytest.mark.client("litellm", "completion stream", "not readable: the client drops comments and unknown keys")
def test_stream(server: WattlineProcess, litellm: ModuleType) -> None:
    chunks = list(litellm.completion(**options(server, stream=True, stream_options={"include_usage": True})))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert chunks[-1].usage.completion_tokens == 8


@pytest.mark.client("litellm", "unknown model: NotFoundError")
def test_unknown_model(server: WattlineProcess, litellm: ModuleType) -> None:
    with pytest.raises(litellm.exceptions.NotFoundError, match="no-such-model"):
        litellm.completion(**options(server, model="openai/no-such-model"))
