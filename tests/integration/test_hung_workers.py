"""A worker that stands still under load is found out by its missing progress, and no request is lost with it."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from scheduler.events import WorkerLost, WorkerReady
from tests.integration.fleet import Fleet, child, fleet, remote
from tests.integration.http_answers import CHAT, HELLO
from tests.integration.process_session import is_alive
from tests.integration.processes import eventually, fake_engine
from workers.supervisor import WorkerState

STALL_SECONDS = 2.0
SPEED = ("--prefill-tokens-per-second", "20", "--decode-tokens-per-second", "50")
# The stall, the second until the next look, and what a machine with others on it takes.
NOTICED_SECONDS = STALL_SECONDS + 4.0
CLIENTS = 16


class Load:
    """Callers that ask again and again; every answer ends up in `outcomes`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.outcomes: Counter[str] = Counter()

    async def ask(self, *, stream: bool) -> None:
        timeout = aiohttp.ClientTimeout(total=40)
        async with aiohttp.ClientSession(self._url, timeout=timeout) as client:
            body = HELLO | {"max_tokens": 20, "stream": stream}
            async with client.post(CHAT, json=body) as response:
                text = (await response.read()).decode()
                self.outcomes[outcome(response.status, text, stream=stream)] += 1

    async def repeat(self, index: int) -> None:
        while True:
            await self.ask(stream=index % 2 == 0)


def outcome(status: int, text: str, *, stream: bool) -> str:
    if status != 200:
        return f"status {status}"
    if not stream:
        return "whole" if json.loads(text)["usage"]["completion_tokens"] == 20 else "short"
    if not text.endswith("data: [DONE]\n\n"):
        return "broken stream"
    return "stream ended by an error event" if '"error"' in text else "stream"


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    load = Load(url)
    clients = [asyncio.create_task(load.repeat(index)) for index in range(CLIENTS)]
    try:
        await asyncio.sleep(1.0)
        yield load
    finally:
        for task in clients:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


def check(load: Load, name: str) -> None:
    sys.stderr.write(f"\n{name}: {dict(load.outcomes)}\n")
    good = {"whole", "stream", "stream ended by an error event"}
    assert set(load.outcomes) <= good, load.outcomes
    # No more streams are cut than the stopped worker can have begun.
    assert load.outcomes["stream ended by an error event"] <= CLIENTS // 2
    assert load.outcomes["whole"] > 0
    assert load.outcomes["stream"] > 0


async def lost(running: Fleet, worker_id: str) -> bool:
    return any(isinstance(event, WorkerLost) for event in running.events(worker_id))


async def ready_again(running: Fleet, worker_id: str) -> bool:
    return isinstance(running.events(worker_id)[-1], WorkerReady)


async def test_a_stopped_child_is_killed_and_replaced_and_its_requests_run_elsewhere() -> None:
    engines = [child("a", *SPEED), child("b", *SPEED)]
    async with fleet(engines, stall_seconds=STALL_SECONDS) as running, under_load(running.url) as load:
        stopped = running.engine_pid("a")
        os.kill(stopped, signal.SIGSTOP)
        stopped_at_seconds = time.monotonic()
        await eventually(lambda: lost(running, "a"), NOTICED_SECONDS)
        noticed_seconds = time.monotonic() - stopped_at_seconds
        told = running.events("a")[-1]
        assert isinstance(told, WorkerLost)
        assert "no progress for" in told.cause
        assert told.returns_in_seconds is not None
        await eventually(lambda: ready_again(running, "a"), 10.0)
        assert running.engine_pid("a") != stopped
        assert not is_alive(stopped)
        assert not await lost(running, "b"), "the other one worked on"
        await asyncio.sleep(1.0)
        check(load, f"stopped child, noticed after {noticed_seconds:.1f} s")


async def test_a_stopped_remote_server_is_left_alone_until_it_answers_again(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, *SPEED) as first,
        fake_engine(tmp_path, *SPEED) as second,
        fleet([remote("a", first.uds), remote("b", second.uds)], stall_seconds=STALL_SECONDS) as running,
        under_load(running.url) as load,
    ):
        os.kill(first.process.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: lost(running, "a"), NOTICED_SECONDS)
            told = running.events("a")[-1]
            assert isinstance(told, WorkerLost)
            assert "no progress for" in told.cause
            assert told.returns_in_seconds is None
            await asyncio.sleep(3.0)
            assert not await ready_again(running, "a")
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
        await eventually(lambda: ready_again(running, "a"), 15.0)
        served = sum((await first.energy())["requests_total"].values())
        await asyncio.sleep(2.0)
        assert sum((await first.energy())["requests_total"].values()) > served
        check(load, "stopped remote server")


async def test_an_engine_that_answers_every_question_and_does_no_work_is_found_out() -> None:
    # As vLLM with its engine core stopped: the server in front of it goes on answering.
    async with fleet([child("a")], stall_seconds=STALL_SECONDS) as running:
        load = Load(running.url)
        await load.ask(stream=False)
        async with aiohttp.ClientSession(running.url) as client:
            hanging = asyncio.create_task(client.post(CHAT, json=HELLO | {"fake_hang": True}))
            await eventually(lambda: lost(running, "a"), NOTICED_SECONDS)
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
        told = next(event for event in running.events("a") if isinstance(event, WorkerLost))
        assert "it stands at 20 steps, 19 decode tokens and 2 prefill tokens" in told.cause
        await eventually(lambda: ready_again(running, "a"))
        await load.ask(stream=False)
        assert load.outcomes == {"whole": 2}


async def test_a_long_answer_in_one_piece_is_no_hang() -> None:
    async with fleet([child("a", "--decode-tokens-per-second", "5")], stall_seconds=2.5) as running:
        load = Load(running.url)
        await load.ask(stream=False)
        assert load.outcomes == {"whole": 1}, "four seconds without a byte, but with tokens"
        assert not await lost(running, "a")


@pytest.mark.parametrize("stopped", ["a", "b"])
async def test_a_silent_worker_keeps_nobody_from_being_heard(tmp_path: Path, stopped: str) -> None:
    async with (
        fake_engine(tmp_path) as first,
        fake_engine(tmp_path) as second,
        fleet([remote("a", first.uds), remote("b", second.uds)]) as running,
    ):
        silent, heard = (first, "b") if stopped == "a" else (second, "a")
        os.kill(silent.process.pid, signal.SIGSTOP)
        told: list[float] = []
        polling = asyncio.create_task(
            running.parts.roster.poll(
                lambda report: told.append(time.monotonic()) if report.worker_id == heard else None
            )
        )
        await asyncio.sleep(4.2)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        os.kill(silent.process.pid, signal.SIGCONT)
        assert 4 <= len(told) <= 6


async def test_a_parked_worker_is_gone_and_serves_again_after_its_start() -> None:
    async with fleet([child("a"), child("b")]) as running:
        load = Load(running.url)
        await asyncio.gather(*(load.ask(stream=index % 2 == 0) for index in range(8)))
        parked = running.worker("a").supervisor
        process = running.engine_pid("a")
        parked.park()
        await eventually(lambda: running.is_in("a", WorkerState.PARKED))
        assert not is_alive(process)
        assert running.worker("b").is_ready
        spent = dict(running.worker("a").energy.totals())
        await asyncio.gather(*(load.ask(stream=index % 2 == 0) for index in range(8)))
        parked.unpark()
        await eventually(lambda: ready_again(running, "a"))
        await asyncio.gather(*(load.ask(stream=index % 2 == 0) for index in range(8)))
        assert load.outcomes == {"whole": 12, "stream": 12}
        assert [type(event).__name__ for event in running.events("a")] == ["WorkerReady", "WorkerParked", "WorkerReady"]
        ready = running.events("a")[-1]
        assert isinstance(ready, WorkerReady)
        assert ready.can_park
        assert ready.start_seconds is not None
        assert parked.restarts == 0
        await running.parts.roster.refresh()
        after = dict(running.worker("a").energy.totals())
        assert all(after[key] >= spent[key] for key in spent), "its totals never fall"
