"""OpenAI's own client does what it is told: it comes back after `Retry-After`, and not where it may not."""

import asyncio
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.integration.processes import eventually, fake_engine, front_end

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello"}]


def client_of(url: str, max_retries: int) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=max_retries, timeout=30)


@pytest.mark.parametrize("queued", [0, 1], ids=["429 queue_full", "503 queue_timeout"])
async def test_one_who_is_turned_away_is_served_when_he_comes_back(tmp_path: Path, queued: int) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(
            tmp_path,
            engine.url,
            max_running_requests=1,
            max_queued_requests=queued,
            queue_timeout_seconds=0.2,
        ) as server,
        client_of(server.url, max_retries=5) as client,
    ):
        long = asyncio.create_task(client.chat.completions.create(model="fake", messages=HELLO, max_tokens=50))
        await eventually(lambda: engine.runs(1))
        raw = await client.chat.completions.with_raw_response.create(model="fake", messages=HELLO, max_tokens=1)
        assert raw.retries_taken >= 1
        assert (await long).choices[0].finish_reason == "length"


async def test_one_who_need_not_come_back_does_not(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url) as server,
        client_of(server.url, max_retries=5) as client,
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(
                model="fake", messages=HELLO, extra_headers={"X-Deadline-Unix-Seconds": "1"}
            )
        assert (refused.value.status_code, refused.value.response.headers["x-should-retry"]) == (408, "false")
        assert refused.value.code == "deadline_passed"
