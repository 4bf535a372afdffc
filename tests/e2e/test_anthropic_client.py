"""Anthropic's own client, unmodified: messages, streams and refusals, with the energy of each."""

from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam, RawMessageDeltaEvent, TextBlock

from tests.e2e.energy_blocks import check_energy, energy_of
from tests.e2e.wattline_process import WattlineProcess, microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.usefixtures("loopback_only")]

MODEL = "smollm2"
HELLO: list[MessageParam] = [{"role": "user", "content": "Say hello to Ada."}]


@pytest.fixture
def client(server: WattlineProcess) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.url, api_key="unused", max_retries=0, timeout=120) as client:
        yield client


@pytest.mark.client("anthropic", "messages", "`message.energy`")
def test_message(client: Anthropic) -> None:
    message = client.messages.create(model=MODEL, messages=HELLO, max_tokens=8, system="Be brief.")
    energy = energy_of(message)
    check_energy(energy)
    assert isinstance(message.content[0], TextBlock)
    assert (energy["prompt_tokens"], energy["output_tokens"]) == (
        message.usage.input_tokens,
        message.usage.output_tokens,
    )


@pytest.mark.client("anthropic", "raw response", "header `X-Energy-Joules`")
def test_headers_say_what_the_body_says(client: Anthropic) -> None:
    raw = client.messages.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=4)
    energy = energy_of(raw.parse())
    assert microjoules(float(raw.headers["X-Energy-Joules"])) == microjoules(energy["energy_joules"])


@pytest.mark.client("anthropic", "messages stream", "`event.usage.energy` of `message_delta`")
def test_stream(client: Anthropic) -> None:
    events = list(client.messages.create(model=MODEL, messages=HELLO, max_tokens=8, stream=True))
    assert events[0].type == "message_start"
    assert events[-1].type == "message_stop"
    (delta,) = (event for event in events if isinstance(event, RawMessageDeltaEvent))
    energy = energy_of(delta.usage)
    check_energy(energy)
    assert energy["output_tokens"] == delta.usage.output_tokens


@pytest.mark.client("anthropic", "`messages.stream()` helper", "`event.usage.energy` of `message_delta`")
def test_stream_helper(client: Anthropic) -> None:
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=8) as stream:
        blocks = [energy_of(event.usage) for event in stream if event.type == "message_delta"]
        message = stream.get_final_message()
    assert len(blocks) == 1
    check_energy(blocks[0])
    assert isinstance(message.content[0], TextBlock)
    assert message.usage.output_tokens == blocks[0]["output_tokens"]


@pytest.mark.client("anthropic", "count_tokens")
def test_tokens_are_counted_without_energy(client: Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO)
    assert counted.input_tokens > 0
    assert "energy" not in (counted.model_extra or {})


@pytest.mark.client("anthropic", "unknown model: NotFoundError")
def test_unknown_model(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(model="no-such-model", messages=HELLO, max_tokens=8)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["error"]["code"] == "model_not_found"
    assert "no-such-model" in refused.value.message


@pytest.mark.client("anthropic", "wrong field: BadRequestError")
@pytest.mark.parametrize(("field", "value"), [("max_tokens", "many"), ("messages", []), ("stream", "perhaps")])
def test_a_wrong_field_is_named(client: Anthropic, field: str, value: object) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=8, extra_body={field: value})
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["error"]["param"] == field
