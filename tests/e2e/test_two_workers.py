"""Two engines under one front end, on cores of their own."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from server.engines import detect_device
from tests.e2e.conftest import StartServer
from tests.e2e.figures import show
from tests.e2e.process_tree import EngineProcesses

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_two_workers_share_the_requests_not_the_cores_and_end_together(start_server: StartServer) -> None:
    cores = os.sched_getaffinity(0)
    if detect_device("auto") != "cpu":
        pytest.skip("the engines run on a GPU here, so cores are not dealt out")
    if len(cores) < 2:
        pytest.skip("this process may use one core only, so two engines cannot have one each")
    server = start_server("--workers", "2", "--policy", "least-loaded")
    show(f"both ready after {server.wait_ready(workers=2):.1f} s")

    first, second = server.engines()
    assert cores_of(first).isdisjoint(cores_of(second))
    assert cores_of(first) | cores_of(second) <= cores
    show(f"cores: {sorted(cores_of(first))} and {sorted(cores_of(second))}")

    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120) as client:
        await asyncio.gather(*(ask(client, number) for number in range(8)))
    dispatches = server.metrics().series("wattline_dispatches_total")
    show(f"dispatches: {dispatches}")
    reached = {dict(labels)["worker"] for labels, count in dispatches.items() if count > 0}
    assert reached == {"vllm-0", "vllm-1"}
    assert sum(dispatches.values()) == 8

    show(f"both ended {server.stop():.1f} s after Ctrl-C")


async def ask(client: AsyncOpenAI, number: int) -> None:
    completion = await client.completions.create(model="smollm2", prompt=f"{number} and one is", max_tokens=32)
    assert completion.model_extra is not None
    assert completion.model_extra["energy"]["energy_joules"] > 0


def cores_of(engine: EngineProcesses) -> set[int]:
    """The CPUs on which any thread of any process of an engine may run."""
    assert engine.api_server_pid in engine.session_pids()
    return {
        core for pid in engine.session_pids() for thread in threads_of(pid) for core in os.sched_getaffinity(thread)
    }


def threads_of(pid: int) -> Iterator[int]:
    for entry in Path(f"/proc/{pid}/task").iterdir():
        yield int(entry.name)
