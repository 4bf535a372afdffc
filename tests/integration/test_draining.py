"""Told to stop, the server ends what it began, begins nothing new, and is gone within its promised time."""

import asyncio
import json
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import END_SECONDS, EngineProcess, FrontEnd, ended, eventually, fake_engine, front_end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stream_is_finished_and_new_requests_are_refused(tmp_path: Path, number: signal.Signals) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        running = asyncio.create_task(ask(client, CHAT, HELLO | {"max_tokens": 100, "stream": True}))
        await eventually(lambda: engine.runs(1))
        server.process.send_signal(number)
        await eventually(lambda: is_stopping(server))
        refused = await ask(client, CHAT, HELLO)
        assert (refused.status, refused.error()["code"]) == (503, "draining")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await ask(client, "/ready", method="GET")).status == 503, "whoever balances load looks elsewhere"
        answer = await running
        assert answer.status == 200
        assert answer.energy()["output_tokens"] == 100
        assert await ended(server.process, END_SECONDS) == 0
        assert "2 requests, 100 output tokens" in server.output(), "the last line sums up"


async def test_a_request_that_never_ends_does_not_keep_the_server(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        hanging = asyncio.create_task(ask(client, CHAT, HELLO | {"fake_hang": True}))
        await eventually(lambda: engine.runs(1))
        asked_at_seconds = time.monotonic()
        server.process.terminate()
        assert await ended(server.process, END_SECONDS) == 0
        assert time.monotonic() - asked_at_seconds < END_SECONDS
        await eventually(lambda: engine.runs(0), seconds=1.0)
        cut_off = await hanging
        assert (cut_off.status, cut_off.error()["code"]) == (503, "draining")


async def test_a_request_that_is_cut_off_gets_an_answer_and_no_traceback(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        hanging = asyncio.create_task(ask(client, CHAT, HELLO | {"fake_hang": True}))
        await eventually(lambda: engine.runs(1))
        server.process.terminate()
        await eventually(lambda: is_stopping(server))
        server.process.terminate()  # again: do not wait
        assert await ended(server.process, END_SECONDS) == 0
        cut_off = await hanging
        assert (cut_off.status, cut_off.error()["code"]) == (503, "draining")
        assert int(cut_off.headers["Retry-After"]) >= 1


async def test_a_stream_that_is_cut_off_ends_with_the_reason_and_is_charged(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        running = asyncio.create_task(ask(client, CHAT, HELLO | {"max_tokens": 5000, "stream": True}))
        await eventually(lambda: engine.runs(1))
        await eventually(lambda: has_made_tokens(engine))
        server.process.terminate()
        await eventually(lambda: is_stopping(server))
        server.process.terminate()
        *tokens, failure, _ = (await running).events()
        assert len(tokens) > 1
        assert json.loads(failure.removeprefix("data: "))["error"]["code"] == "draining"
        assert await ended(server.process, END_SECONDS) == 0
        assert await engine.runs(0)
        assert (await engine.energy())["recent_requests"][-1]["outcome"] == "aborted"
        assert "requests 0 J" not in server.output()


async def test_with_nothing_to_do_it_stops_at_once(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine, front_end(tmp_path, engine.url) as server:
        server.process.terminate()
        assert await ended(server.process, 3.0) == 0
        assert engine.process.poll() is None, "an engine that somebody else runs is left alone"


async def test_it_stops_while_it_still_waits_for_a_worker(tmp_path: Path) -> None:
    async with (
        front_end(tmp_path, f"unix:{tmp_path}/nobody.sock", wait_ready=False) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        health = await ask(client, "/health", method="GET")
        ready = await ask(client, "/ready", method="GET")
        assert (health.status, ready.status) == (200, 503)
        assert ready.json() == {"ready": False, "workers": [{"id": "remote-0", "state": "starting"}]}
        server.process.terminate()
        assert await ended(server.process, 3.0) == 0


async def has_made_tokens(engine: EngineProcess) -> bool:
    return bool((await engine.energy())["tokens_total"]["output"] > 5)


async def is_stopping(server: FrontEnd) -> bool:
    return "stopping" in server.output()
