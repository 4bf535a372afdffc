"""LangChain's OpenAI model, unmodified: what it keeps of the energy, and that everything else works."""

from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.e2e.wattline_process import WattlineProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.usefixtures("loopback_only")]

GET_WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def chat_model(server: WattlineProcess, model: str = "smollm2", **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=model,
        base_url=f"{server.url}/v1",
        api_key=SecretStr("unused"),
        max_retries=0,
        timeout=120,
        temperature=0,
        **({"max_tokens": 8} | options),
    )


HEADERS = '`response_metadata["headers"]["x-energy-joules"]` with `include_response_headers=True`'


@pytest.mark.client("langchain-openai", "invoke", HEADERS)
def test_invoke(server: WattlineProcess) -> None:
    answer = chat_model(server, include_response_headers=True).invoke("Say hello to Ada.")
    assert answer.content
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 8
    headers = answer.response_metadata["headers"]
    assert float(headers["x-energy-joules"]) > 0
    assert headers["x-energy-source"] == "estimate"


@pytest.mark.client("langchain-openai", "stream", "not readable: the client drops comments and unknown keys")
def test_stream(server: WattlineProcess) -> None:
    chunks = list(chat_model(server, stream_usage=True).stream("Say hello to Ada."))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    assert whole.content
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 8


@pytest.mark.client("langchain-openai", "ainvoke", HEADERS)
async def test_ainvoke(server: WattlineProcess) -> None:
    answer = await chat_model(server, include_response_headers=True).ainvoke("Say hello to Ada.")
    assert float(answer.response_metadata["headers"]["x-energy-joules"]) > 0


@pytest.mark.client("langchain-openai", "tool call", HEADERS)
def test_tool_call(server: WattlineProcess) -> None:
    model = chat_model(server, include_response_headers=True, max_tokens=64)
    # vLLM holds the arguments of strict tools alone to their schema; a model this small needs that.
    tools = model.bind_tools([GET_WEATHER], tool_choice="get_weather", strict=True)
    answer = tools.invoke("What is the weather in Paris?")
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"]["city"] in {"Paris", "Rome"}
    assert float(answer.response_metadata["headers"]["x-energy-joules"]) > 0


@pytest.mark.client("langchain-openai", "unknown model: NotFoundError")
def test_unknown_model(server: WattlineProcess) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        chat_model(server, model="no-such-model").invoke("hello")
