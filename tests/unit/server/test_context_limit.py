"""Over an engine with behaviour of its own: one token a letter, and a context as long as the test says."""

import json
from typing import Any

import pytest

from server.api_error import ApiError
from server.context_limit import ContextLimits
from server.generation_request import parse_generation_request

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
TEMPLATE_TOKENS = 10


class CountingEngine:
    """Counts a token for each letter, and ten for a chat's template."""

    def __init__(self, limit: int | None = 1000, status: int = 200) -> None:
        self.limit = limit
        self.status = status
        self.is_silent = False
        self.listings = 0
        self.questions: list[dict[str, Any]] = []

    async def get_json(self, target: str, timeout_seconds: float) -> Any | None:
        assert target == "/v1/models"
        self.listings += 1
        return None if self.is_silent else {"data": [{"id": "m", "max_model_len": self.limit}, {"id": "adapter"}, 7]}

    async def post_json(self, target: str, body: bytes, timeout_seconds: float) -> tuple[int, bytes] | None:
        assert target == "/tokenize"
        question = json.loads(body)
        self.questions.append(question)
        if self.is_silent:
            return None
        texts = [question["prompt"]] if "prompt" in question else [m["content"] for m in question["messages"]]
        count = sum(map(len, texts)) + (0 if "prompt" in question else TEMPLATE_TOKENS)
        answer = {"count": count, "max_model_len": self.limit, "tokens": [1] * count}
        return self.status, json.dumps(answer, separators=(",", ":")).encode()


class Clock:
    def __init__(self) -> None:
        self.now_seconds = 0.0

    def __call__(self) -> float:
        return self.now_seconds


async def tokens_of(limits: ContextLimits, path: str, **fields: Any) -> int | None:
    body = json.dumps(fields).encode()
    return await limits.prompt_tokens(path, "m", parse_generation_request(body, path), body)


async def refusal(limits: ContextLimits, path: str, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        await tokens_of(limits, path, **fields)
    assert (error.value.status, error.value.code) == (400, "context_length_exceeded")
    return error.value


def limits_of(*engines: CountingEngine, clock: Clock | None = None) -> ContextLimits:
    return ContextLimits(lambda model: engines if model == "m" else (), clock or Clock())


def chat(length: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "x" * length}]


async def test_a_short_prompt_costs_no_question() -> None:
    engine = CountingEngine()
    assert await tokens_of(limits_of(engine), CHAT, messages=chat(100)) is None
    assert (engine.listings, engine.questions) == (0, [])


async def test_a_prompt_that_must_fit_costs_one_listing_ever() -> None:
    engine = CountingEngine(limit=10_000)
    limits = limits_of(engine)
    for _ in range(3):
        assert await tokens_of(limits, CHAT, messages=chat(5000)) is None
    assert (engine.listings, engine.questions) == (1, [])


async def test_a_prompt_that_may_not_fit_is_counted_by_the_engine() -> None:
    engine = CountingEngine()
    assert await tokens_of(limits_of(engine), CHAT, messages=chat(990)) == 1000
    assert await tokens_of(limits_of(engine), COMPLETIONS, prompt="x" * 1000) == 1000


async def test_a_chat_that_is_too_long_is_refused_with_the_numbers() -> None:
    error = await refusal(limits_of(CountingEngine()), CHAT, messages=chat(991))
    assert error.message == "This model's maximum context length is 1000 tokens, but the prompt has 1001 tokens."
    assert error.param == "messages"


async def test_prompt_and_output_together_must_fit() -> None:
    limits = limits_of(CountingEngine())
    assert await tokens_of(limits, COMPLETIONS, prompt="x" * 900, max_tokens=100) == 900
    error = await refusal(limits, COMPLETIONS, prompt="x" * 901, max_tokens=100)
    assert error.message.endswith("1000 tokens, but the prompt has 901 tokens and max_tokens asks for 100 more.")
    assert error.param == "prompt"


async def test_an_output_that_cannot_fit_needs_no_count() -> None:
    engine = CountingEngine()
    error = await refusal(limits_of(engine), CHAT, messages=chat(1), max_completion_tokens=1001)
    assert error.message.endswith("but max_completion_tokens asks for 1001.")
    assert (error.param, engine.questions) == ("max_completion_tokens", [])


async def test_token_ids_are_judged_without_asking() -> None:
    engine = CountingEngine()
    limits = limits_of(engine)
    assert await tokens_of(limits, COMPLETIONS, prompt=[1] * 1000) == 1000
    assert await tokens_of(limits, COMPLETIONS, prompt=[[1] * 600, [2] * 600]) == 1200, "each has the context to itself"
    assert (await refusal(limits, COMPLETIONS, prompt=[[1], [1] * 1001])).param == "prompt"
    assert engine.questions == []


async def test_of_several_texts_the_longest_is_counted() -> None:
    limits = limits_of(CountingEngine())
    assert await tokens_of(limits, COMPLETIONS, prompt=["x" * 900, "x" * 800]) is None
    error = await refusal(limits, COMPLETIONS, prompt=["x" * 900, "x" * 1001])
    assert "at least 1001 tokens" in error.message


@pytest.mark.parametrize(
    "given",
    [
        "x" * 1001,
        [{"role": "user", "content": "x" * 1001}],
        [{"role": "user", "content": [{"type": "input_text", "text": "x" * 1001}]}],
    ],
)
async def test_the_responses_api_is_judged_by_its_bare_text(given: object) -> None:
    limits = limits_of(CountingEngine())
    error = await refusal(limits, RESPONSES, input=given, instructions="")
    assert error.param == "input"
    assert await tokens_of(limits, RESPONSES, input=given, truncation="auto") is None


async def test_images_are_not_sent_to_be_counted() -> None:
    engine = CountingEngine()
    image = {"type": "image_url", "image_url": {"url": "data:A"}}
    content = [image, {"type": "text", "text": "x" * 900}]
    assert await tokens_of(limits_of(engine), CHAT, messages=[{"role": "user", "content": content}]) is None
    assert [question["prompt"] for question in engine.questions] == ["x" * 900]


async def test_the_template_is_filled_in_as_for_the_request_itself() -> None:
    engine = CountingEngine()
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = {"messages": chat(900), "add_generation_prompt": False, "chat_template_kwargs": {"a": 1}, "tools": tools}
    await tokens_of(limits_of(engine), CHAT, temperature=0, **asked)
    assert engine.questions == [{"model": "m"} | asked]


async def test_of_a_very_long_text_only_the_beginning_is_sent() -> None:
    engine = CountingEngine()
    error = await refusal(limits_of(engine), CHAT, messages=chat(1_000_000))
    assert "at least 16000 tokens" in error.message
    assert len(engine.questions[0]["prompt"]) == 16_000


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_where_nobody_can_count_the_engine_judges_later(status: int) -> None:
    assert await tokens_of(limits_of(CountingEngine(status=status)), CHAT, messages=chat(5000)) is None
    assert await tokens_of(limits_of(), CHAT, messages=chat(5000)) is None
    assert await tokens_of(limits_of(CountingEngine(limit=None)), CHAT, messages=chat(5000)) is None


async def test_an_engine_that_is_silent_is_left_alone_for_a_while_and_another_asked() -> None:
    clock, silent, other = Clock(), CountingEngine(), CountingEngine()
    limits = limits_of(silent, other, clock=clock)
    await refusal(limits, CHAT, messages=chat(991))
    silent.is_silent = True
    for _ in range(3):
        await refusal(limits, CHAT, messages=chat(991))
    assert (len(silent.questions), len(other.questions)) == (2, 3)
    silent.is_silent = False
    clock.now_seconds += 31
    await refusal(limits, CHAT, messages=chat(991))
    assert len(silent.questions) == 3


async def test_a_limit_that_an_engine_was_restarted_with_is_noticed() -> None:
    clock, engine = Clock(), CountingEngine()
    limits = limits_of(engine, clock=clock)
    await refusal(limits, COMPLETIONS, prompt=[1] * 1500)
    engine.limit = 2000
    assert await tokens_of(limits, COMPLETIONS, prompt="x" * 1500) == 1500, "the count comes with the limit"
    clock.now_seconds += 61
    assert await tokens_of(limits, COMPLETIONS, prompt=[1] * 1500) == 1500


async def test_the_limit_is_remembered_while_no_worker_is_ready() -> None:
    engines = [CountingEngine()]
    limits = ContextLimits(lambda _: engines, Clock())
    await refusal(limits, COMPLETIONS, prompt=[1] * 1001)
    engines.clear()
    await refusal(limits, COMPLETIONS, prompt=[1] * 1001)
    assert await tokens_of(limits, CHAT, messages=chat(1001)) is None
