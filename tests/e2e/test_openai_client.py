"""OpenAI's own client, unmodified: every kind of answer carries its energy, and every refusal is one it understands."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam
from openai.types.responses import ResponseCompletedEvent, ResponseIncompleteEvent
from pydantic import BaseModel

from tests.e2e.energy_blocks import check_energy, energy_of
from tests.e2e.wattline_process import WattlineProcess, microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "smollm2"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello to Ada."}]


@pytest.fixture
def client(server: WattlineProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture
async def async_client(server: WattlineProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        yield client


# -- answers in one piece ------------------------------------------------------------------------------------------


@pytest.mark.client("openai", "completions", "`completion.energy`")
def test_completion(client: OpenAI) -> None:
    completion = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8, extra_body={"ignore_eos": True}
    )
    energy = energy_of(completion)
    check_energy(energy)
    assert completion.usage is not None
    assert completion.choices[0].text
    assert energy["output_tokens"] == completion.usage.completion_tokens == 8
    assert energy["prompt_tokens"] == completion.usage.prompt_tokens


@pytest.mark.client("openai", "chat", "`completion.energy`")
def test_chat(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
    check_energy(energy_of(completion))
    assert completion.choices[0].message.content


@pytest.mark.client("openai", "async client", "`completion.energy`")
async def test_chat_and_completion_with_the_async_client(async_client: AsyncOpenAI) -> None:
    chat = await async_client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
    check_energy(energy_of(chat))
    completion = await async_client.completions.create(model=MODEL, prompt="One, two,", max_tokens=8)
    check_energy(energy_of(completion))


@pytest.mark.client("openai", "raw response", "header `X-Energy-Joules`")
def test_headers_say_what_the_body_says(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=8, extra_headers={"X-Request-Id": "e2e-headers"}
    )
    energy = energy_of(raw.parse())
    assert microjoules(float(raw.headers["X-Energy-Joules"])) == microjoules(energy["energy_joules"])
    assert raw.headers["X-Energy-Source"] == energy["source"]
    assert raw.headers["X-Request-Id"] == "e2e-headers"


def test_several_choices_pay_for_all_their_tokens(client: OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HELLO, n=2, max_tokens=12)
    energy = energy_of(completion)
    check_energy(energy)
    assert completion.usage is not None
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert energy["output_tokens"] == completion.usage.completion_tokens


def test_a_list_of_prompts_pays_for_all_of_them(client: OpenAI) -> None:
    prompts = ["The sun is", "The moon is", "The sea is"]
    completion = client.completions.create(model=MODEL, prompt=prompts, max_tokens=6, extra_body={"ignore_eos": True})
    energy = energy_of(completion)
    check_energy(energy)
    assert completion.usage is not None
    assert len(completion.choices) == 3
    assert energy["output_tokens"] == completion.usage.completion_tokens == 18
    assert energy["prompt_tokens"] == completion.usage.prompt_tokens


@pytest.mark.client("openai", "JSON schema", "`completion.energy`")
def test_json_schema(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Which colour is grass? Answer in JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "colour", "schema": schema, "strict": True}},
        max_tokens=64,
        temperature=0,
    )
    check_energy(energy_of(completion))
    assert json.loads(completion.choices[0].message.content or "")["colour"] in {"red", "green"}


@pytest.mark.client("openai", "tool call", "`completion.energy`")
def test_named_tool_call(client: OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=64,
        temperature=0,
    )
    check_energy(energy_of(completion))
    calls = completion.choices[0].message.tool_calls or []
    assert len(calls) == 1
    assert isinstance(calls[0], ChatCompletionMessageFunctionToolCall)
    assert calls[0].function.name == "get_weather"
    assert "Paris" in json.dumps(json.loads(calls[0].function.arguments))


@pytest.mark.client("openai", "responses", "`response.energy`")
def test_response(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16)
    energy = energy_of(response)
    check_energy(energy)
    assert response.usage is not None
    assert energy["output_tokens"] == response.usage.output_tokens


def test_embeddings_of_a_model_that_has_none_are_refused_in_openai_shape(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model=MODEL, input="hello")
    assert 400 <= refused.value.status_code < 500
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["message"]
    assert refused.value.type == "invalid_request_error"
    assert isinstance(refused.value.code, str)


@pytest.mark.client("openai", "models: list, retrieve")
def test_the_models_served(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object) == (MODEL, "model")
    found = client.models.retrieve(MODEL)
    assert (found.id, found.created) == (model.id, model.created)
    assert found.model_extra is not None
    assert found.model_extra["max_model_len"] == 2048
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("no/such-model")
    assert refused.value.code == "model_not_found"


@pytest.mark.client("openai", "logprobs", "`completion.energy`")
def test_logprobs(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2
    )
    check_energy(energy_of(completion))
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert [len(token.top_logprobs) for token in logprobs.content or []] == [2, 2, 2]


class Colour(BaseModel):
    """What the model is to answer with."""

    colour: Literal["red", "green"]


@pytest.mark.client("openai", "chat.completions.parse", "`completion.energy`")
def test_parsed_answer(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL, messages=HELLO, response_format=Colour, max_tokens=24, temperature=0
    )
    check_energy(energy_of(completion))
    assert completion.choices[0].message.parsed is not None


# -- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.client("openai", "chat stream with usage", "`chunk.energy` of the last chunk")
def test_stream_with_usage_has_the_energy_beside_it(client: OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert all(len(chunk.choices) == 1 for chunk in chunks[:-1])
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    energy = energy_of(last)
    check_energy(energy)
    assert energy["output_tokens"] == last.usage.completion_tokens
    assert not any("energy" in (chunk.model_extra or {}) for chunk in chunks[:-1])


@pytest.mark.client("openai", "chat stream without usage", "SSE comment, which the client drops")
def test_stream_without_usage_has_no_chunk_that_was_not_asked_for(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, stream=True))
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason is not None
    assert not any("energy" in (chunk.model_extra or {}) for chunk in chunks)


async def test_async_streams(async_client: AsyncOpenAI) -> None:
    plain = await async_client.completions.create(model=MODEL, prompt="One, two,", max_tokens=8, stream=True)
    assert [len(chunk.choices) async for chunk in plain] == [1] * 8
    asked = await async_client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=8, n=2, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in asked]
    check_energy(energy_of(chunks[-1]))


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["plain", "usage"])
@pytest.mark.parametrize(
    ("path", "prompt"),
    [("/v1/chat/completions", {"messages": HELLO}), ("/v1/completions", {"prompt": "One, two,"})],
    ids=["chat", "completion"],
)
def test_stream_ends_with_the_energy_comment(
    server: WattlineProcess, path: str, prompt: dict[str, Any], options: dict[str, Any]
) -> None:
    body = {"model": MODEL, "max_tokens": 8, "stream": True} | prompt | options
    text = httpx.post(server.url + path, json=body, timeout=60).text
    *data, comment, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    energy = json.loads(comment.removeprefix(": energy "))
    check_energy(energy)
    assert all(event.startswith("data: {") for event in data)
    last = json.loads(data[-1].removeprefix("data: "))
    assert last.get("energy") == (energy if options else None)
    assert bool(last["choices"]) is not bool(options)


@pytest.mark.client("openai", "responses stream", "`event.response.usage.energy` of the last event")
def test_response_stream_has_the_energy_in_its_last_usage(client: OpenAI) -> None:
    with client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16, stream=True) as stream:
        last = list(stream)[-1]
    assert isinstance(last, ResponseCompletedEvent | ResponseIncompleteEvent)
    assert last.response.usage is not None
    check_energy(energy_of(last.response.usage))


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.client("openai", "unknown model: NotFoundError")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_unknown_model(client: OpenAI, stream: bool) -> None:  # noqa: FBT001  # a parameter of the test
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="no-such-model", messages=HELLO, stream=stream)
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"
    assert refused.value.type == "invalid_request_error"
    assert "no-such-model" in refused.value.message


@pytest.mark.client("openai", "wrong field: BadRequestError")
@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", "many"), ("temperature", "hot"), ("stream", "perhaps"), ("messages", "hello"), ("n", "two")],
)
def test_a_field_of_the_wrong_type_is_named(client: OpenAI, field: str, value: object) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={field: value})
    assert refused.value.param == field
    assert field in refused.value.message
    assert refused.value.type == "invalid_request_error"
    assert isinstance(refused.value.code, str)


def test_a_value_out_of_range_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=5000)
    assert refused.value.param == "max_tokens"


@pytest.mark.client("openai", "context_length_exceeded")
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_prompt_longer_than_the_context(client: OpenAI, stream: bool) -> None:  # noqa: FBT001  # likewise
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="word " * 3000, max_tokens=8, stream=stream)
    assert refused.value.code == "context_length_exceeded"
