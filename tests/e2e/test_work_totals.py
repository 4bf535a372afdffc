"""What the real engine says it has done is what it was asked to do."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.e2e.figures import show
from tests.e2e.wattline_process import WattlineProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TOTALS = ("steps_total", "decode_tokens_total", "prefill_tokens_total")


def work(server: WattlineProcess) -> dict[str, Any]:
    told: dict[str, Any] = server.worker_energy()["work"]
    return told


def rise(before: dict[str, Any], after: dict[str, Any]) -> tuple[int, ...]:
    return tuple(after[name] - before[name] for name in TOTALS)


def request(prompt: str, output_tokens: int) -> dict[str, Any]:
    """Shorter than a block of the prefix cache, so that all of the prompt is computed."""
    return {"model": "smollm2", "prompt": prompt, "max_tokens": output_tokens, "ignore_eos": True}


async def test_one_request_adds_its_prompt_and_a_decode_token_for_each_later_output_token(
    server: WattlineProcess,
) -> None:
    before, began_at_seconds = work(server), time.monotonic()
    async with httpx.AsyncClient(base_url=server.url, timeout=120, verify=False) as client:
        answer = (await client.post("/v1/completions", json=request("Seven ate", 24))).json()
    after, seconds = work(server), time.monotonic() - began_at_seconds
    assert answer["usage"]["completion_tokens"] == 24
    assert rise(before, after) == (24, 23, answer["usage"]["prompt_tokens"])
    stepping_seconds = after["step_seconds_total"] - before["step_seconds_total"]
    show(f"24 steps took {stepping_seconds:.3f} s of the request's {seconds:.3f} s")
    assert 0 < stepping_seconds < seconds
    assert after["kv_cache_usage_ratio"] == 0.0


async def test_requests_side_by_side_share_their_steps(server: WattlineProcess) -> None:
    before = work(server)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, verify=False) as client:
        asked = [client.post("/v1/completions", json=request(f"Number {index}", 32)) for index in range(4)]
        answers = [answer.json() for answer in await asyncio.gather(*asked)]
    steps, decode_tokens, prefill_tokens = rise(before, work(server))
    show(f"4 requests of 32 tokens took {steps} steps")
    assert decode_tokens == 4 * 31
    assert prefill_tokens == sum(answer["usage"]["prompt_tokens"] for answer in answers)
    assert 32 <= steps < 4 * 32
