"""Waiting is bounded: beyond the queue's limit a request is told when to come back."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.http_answers import CHAT, HELLO, ask, metrics
from tests.integration.processes import eventually, fake_engine, front_end

LONG: dict[str, Any] = HELLO | {"max_tokens": 5000, "stream": True}


async def queued(client: aiohttp.ClientSession, requests: int) -> bool:
    return (await metrics(client)).total("wattline_queue_requests", tier="default") == requests


async def test_a_full_queue_is_429_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url, max_running_requests=1, max_queued_requests=1) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        first = asyncio.create_task(ask(client, CHAT, LONG))
        await eventually(lambda: engine.runs(1))
        second = asyncio.create_task(ask(client, CHAT, HELLO | {"max_tokens": 1}))
        await eventually(lambda: queued(client, 1))
        for stream in (False, True):
            refused = await ask(client, CHAT, HELLO | {"stream": stream})
            error = refused.error()
            assert (refused.status, error["type"], error["code"]) == (429, "rate_limit_error", "queue_full")
            assert int(refused.headers["Retry-After"]) >= 1
        assert await engine.runs(1), "no more than one at a time"
        first.cancel()
        assert (await second).status == 200, "a place that is given up goes to who waits"
        assert (await metrics(client)).total("wattline_requests_total", outcome="refused") == 2
        with contextlib.suppress(asyncio.CancelledError):
            await first


async def test_a_wait_that_is_too_long_is_503(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url, max_running_requests=1, queue_timeout_seconds=0.2) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        first = asyncio.create_task(ask(client, CHAT, LONG))
        await eventually(lambda: engine.runs(1))
        late = await ask(client, CHAT, HELLO)
        assert (late.status, late.error()["code"]) == (503, "queue_timeout")
        assert int(late.headers["Retry-After"]) >= 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_requests_run_side_by_side_up_to_the_limit(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url, max_running_requests=3) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        answers = [asyncio.create_task(ask(client, CHAT, HELLO | {"max_tokens": 10})) for _ in range(9)]
        most = 0
        while not all(answer.done() for answer in answers):
            most = max(most, (await engine.energy())["running_requests"])
            await asyncio.sleep(0.01)
        assert [answer.result().status for answer in answers] == [200] * 9
        assert most == 3
        assert (await metrics(client)).total("wattline_queue_seconds_count", model="fake") == 9
