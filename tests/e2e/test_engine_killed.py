"""An engine killed from outside: the server says so, starts it again, and keeps both its callers and its totals."""

import asyncio
import itertools
import os
import signal
import time

import pytest
from openai import AsyncOpenAI

from tests.e2e.figures import show
from tests.e2e.wattline_process import Metrics, WattlineProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NOTICED_SECONDS = 10.0


async def test_killed_engine_is_replaced_callers_wait_and_totals_never_fall(server: WattlineProcess) -> None:
    (killed,) = server.engines()
    pages = [server.metrics()]
    os.kill(killed.api_server_pid, signal.SIGKILL)
    await asyncio.to_thread(wait_until_not_ready, server)
    assert server.worker_states() != ["ready"]

    watching = asyncio.create_task(scrape(server, pages))
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=240) as client:
        await asyncio.gather(whole(client), streamed(client))
    assert server.ready_status() == 200
    watching.cancel()
    pages.append(server.metrics())

    check_totals_never_fall(pages)
    assert pages[-1].total("wattline_worker_restarts_total") == 1
    (fresh,) = server.engines()
    assert fresh.api_server_pid != killed.api_server_pid
    assert not killed.socket_path.exists()


def wait_until_not_ready(server: WattlineProcess) -> None:
    deadline = time.monotonic() + NOTICED_SECONDS
    while server.ready_status() != 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def scrape(server: WattlineProcess, pages: list[Metrics]) -> None:
    while True:
        pages.append(await asyncio.to_thread(server.metrics))
        await asyncio.sleep(0.5)


async def whole(client: AsyncOpenAI) -> None:
    completion = await client.completions.create(model="smollm2", prompt="One, two,", max_tokens=8)
    assert completion.model_extra is not None
    assert completion.model_extra["energy"]["energy_joules"] > 0


async def streamed(client: AsyncOpenAI) -> None:
    """Held for longer than the pause between keep-alive comments, so its stream begins before the engine is there."""
    stream = await client.completions.create(model="smollm2", prompt="One, two,", max_tokens=8, stream=True)
    texts = [chunk.choices[0].text async for chunk in stream]
    assert "".join(texts)


def check_totals_never_fall(pages: list[Metrics]) -> None:
    show(f"{len(pages)} scrapes")
    for name in ("wattline_energy_joules_total", "wattline_tenant_energy_joules_total"):
        for earlier, later in itertools.pairwise(pages):
            now = later.series(name)
            for labels, joules in earlier.series(name).items():
                assert now[labels] >= joules, (name, labels)
