"""A worker that fails takes no request with it that had not begun to be answered, and says so where it had."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, HELLO, Answer, ask, metrics
from tests.integration.processes import eventually, fake_engine, front_end, is_ready


async def test_requests_for_a_worker_that_died_are_served_by_another(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as first,
        fake_engine(tmp_path) as second,
        front_end(tmp_path, first.url, second.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        assert (await ask(client, CHAT, HELLO)).status == 200
        first.process.kill()
        first.process.wait()
        answers = [await ask(client, CHAT, HELLO | {"stream": stream}) for stream in (False, True) * 3]
        assert [answer.status for answer in answers] == [200] * 6
        page = await metrics(client)
        assert page.total("wattline_dispatches_total", reason="retry") >= 1
        assert page.total("wattline_requests_total", outcome="completed") == 7
        assert page.total("wattline_requests_total", outcome="failed") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_dies_before_its_first_byte_is_not_noticed(tmp_path: Path, *, stream: bool) -> None:
    slow = ("--prefill-tokens-per-second", "2")  # one second for the two tokens of the prompt
    async with (
        fake_engine(tmp_path, *slow) as first,
        fake_engine(tmp_path, *slow) as second,
        front_end(tmp_path, first.url, second.url, policy="least-loaded") as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        body = HELLO | {"max_tokens": 3, "stream": stream}
        answers = [asyncio.create_task(ask(client, CHAT, body)) for _ in range(4)]
        await eventually(lambda: first.runs(2))
        first.process.kill()
        for answer in await asyncio.gather(*answers):
            assert answer.status == 200
            assert answer.energy()["output_tokens"] == 3
        assert (await second.energy())["requests_total"]["completed"] == 4


async def test_a_worker_that_dies_in_mid_stream_ends_it_with_an_error(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        async with client.post(CHAT, json=HELLO | {"max_tokens": 5000, "stream": True}) as response:
            begun = await response.content.readline()
            engine.process.kill()
            whole = Answer(response.status, response.headers, begun + await response.read())
        assert whole.status == 200
        *tokens, failure, _ = whole.events()
        assert all(json.loads(event.removeprefix("data: "))["choices"] for event in tokens)
        error = json.loads(failure.removeprefix("data: "))["error"]
        assert (error["type"], error["code"], error["param"]) == ("server_error", "engine_error", None)
        page = await metrics(client)
        assert page.total("wattline_requests_total", outcome="failed") == 1


async def test_a_stream_that_breaks_off_inside_an_event_still_ends_with_a_readable_error(tmp_path: Path) -> None:
    # The staged crash keeps the engine alive, so the requests after it are served.
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        broken = await ask(client, CHAT, HELLO | {"max_tokens": 9, "stream": True, "fake_crash_after_tokens": 4})
        assert len(broken.events()) == 4 + 2
        assert json.loads(broken.events()[-2].removeprefix("data: "))["error"]["code"] == "engine_error"
        assert (await ask(client, CHAT, HELLO)).status == 200


async def test_what_a_broken_answer_used_is_charged(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        await ask(client, CHAT, HELLO | {"max_tokens": 9, "stream": True, "fake_crash_after_tokens": 4})
        page = await metrics(client)
        used = [page.total("wattline_energy_joules_total", account=name) for name in ("prefill", "decode")]
        assert sum(used) > 0
        assert page.total("wattline_tenant_energy_joules_total") == pytest.approx(sum(used), abs=1e-6)


async def test_a_request_that_the_only_worker_broke_off_gets_its_answer_in_seconds(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
        asyncio.timeout(8),
    ):
        answer = await ask(client, CHAT, HELLO | {"fake_crash_after_tokens": 0})
        assert answer.status in {502, 503}
        assert answer.error()["type"] == "server_error"


async def test_a_worker_that_came_back_serves_again(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as first, front_end(tmp_path, first.url) as server:
        first.process.kill()
        await eventually(lambda: is_not_ready(server.url), seconds=15)
        async with aiohttp.ClientSession(server.url) as client:
            none = await ask(client, "/v1/models", method="GET")
            assert (none.status, none.error()["code"], none.headers["Retry-After"]) == (503, "no_worker", "10")
            first.uds.unlink(missing_ok=True)
            async with fake_engine(tmp_path) as second:
                first.uds.symlink_to(second.uds)
                await eventually(lambda: is_ready(server, 1))
                assert (await ask(client, CHAT, HELLO)).status == 200
                assert (await metrics(client)).total("wattline_worker_restarts_total") == 1


async def is_not_ready(url: str) -> bool:
    async with aiohttp.ClientSession(url) as client:
        return (await ask(client, "/ready", method="GET")).status == 503
