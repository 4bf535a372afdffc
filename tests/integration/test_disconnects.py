"""A caller who leaves frees the engine at once, and pays for what was used."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, HELLO, ask, metrics
from tests.integration.processes import EngineProcess, eventually, fake_engine, front_end

LONG: dict[str, Any] = HELLO | {"max_tokens": 5000}


async def leave_once_running(client: aiohttp.ClientSession, engine: EngineProcess, body: dict[str, Any]) -> None:
    """Hang up on an answer that the engine is still working on."""
    request = asyncio.create_task(ask(client, CHAT, body))
    await eventually(lambda: engine.runs(1))
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request


@pytest.mark.parametrize("stream", [False, True])
async def test_the_engine_stops_within_a_second(
    client: aiohttp.ClientSession, engine: EngineProcess, *, stream: bool
) -> None:
    await leave_once_running(client, engine, LONG | {"stream": stream})
    await eventually(lambda: engine.runs(0), seconds=1.0)
    assert (await engine.energy())["recent_requests"][-1]["outcome"] == "aborted"


async def test_leaving_in_mid_stream_is_noticed(client: aiohttp.ClientSession, engine: EngineProcess) -> None:
    async with client.post(CHAT, json=LONG | {"stream": True}) as response:
        for _ in range(20):
            await response.content.readline()
        response.close()
    await eventually(lambda: engine.runs(0), seconds=1.0)


async def test_what_they_used_is_charged(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        for stream in (True, False, True):
            await leave_once_running(client, engine, LONG | {"stream": stream})
            await eventually(lambda: engine.runs(0))
        recent = (await engine.energy())["recent_requests"]
        assert [request["outcome"] for request in recent] == ["aborted"] * 3
        used = sum(request["prefill_microjoules"] + request["decode_microjoules"] for request in recent) / 1e6
        assert used > 0
        page = await metrics(client)
        assert page.total("wattline_requests_total", outcome="aborted", model="fake") == 3
        accounts = [page.total("wattline_energy_joules_total", account=name) for name in ("prefill", "decode")]
        assert sum(accounts) == pytest.approx(used, abs=1e-6)
        assert page.total("wattline_tenant_energy_joules_total", model="fake") == pytest.approx(used, abs=1e-6)
        again = await metrics(client)
        assert again.total("wattline_tenant_energy_joules_total") == pytest.approx(used, abs=1e-6), "charged once"


async def test_one_id_used_for_two_that_were_left_is_charged_twice(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url, headers={"X-Request-Id": "mine"}) as client,
    ):
        for _ in range(2):
            await leave_once_running(client, engine, LONG)
            await eventually(lambda: engine.runs(0))
            await metrics(client)
        page = await metrics(client)
        accounts = [page.total("wattline_energy_joules_total", account=name) for name in ("prefill", "decode")]
        assert page.total("wattline_tenant_energy_joules_total") == pytest.approx(sum(accounts), abs=1e-6)


async def test_a_caller_who_leaves_the_queue_never_reaches_the_engine(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "50") as engine,
        front_end(tmp_path, engine.url, max_running_requests=1) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        running = asyncio.create_task(ask(client, CHAT, LONG))
        await eventually(lambda: engine.runs(1))
        queued = asyncio.create_task(ask(client, CHAT, LONG, headers={"X-Request-Id": "queued"}))
        await eventually(lambda: queue_holds(client, 1))
        queued.cancel()
        await eventually(lambda: queue_holds(client, 0), seconds=1.0)
        running.cancel()
        await asyncio.gather(running, queued, return_exceptions=True)
        await eventually(lambda: engine.runs(0))
        assert "queued" not in [request["request_id"] for request in (await engine.energy())["recent_requests"]]


async def queue_holds(client: aiohttp.ClientSession, requests: int) -> bool:
    return (await metrics(client)).total("wattline_queue_requests") == requests
