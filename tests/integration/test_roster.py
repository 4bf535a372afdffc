"""The roster against a worker whose telemetry is not what we expect; an engine in the test, no network."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from scheduler.events import WorkerReported, WorkReport
from server.roster import Member, Roster
from workers.engine import EngineReady
from workers.errors import EngineUnreachableError
from workers.remote_engine import RemoteEngine
from workers.supervisor import Supervisor, WorkerState

STALL_SECONDS = 2.0
WORK = {"steps_total": 3, "step_seconds_total": 0.5, "decode_tokens_total": 8, "prefill_tokens_total": 40}


class Telemetry:
    def __init__(self) -> None:
        self.report: Any = {}
        self.probes = 0


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Telemetry]:
    served = Telemetry()

    async def energy(_: web.Request) -> web.Response:
        return web.json_response(served.report)

    async def models(_: web.Request) -> web.Response:
        served.probes += 1
        return web.json_response({"data": [{"id": "m"}]})

    async def silence(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    application = web.Application()
    application.router.add_get("/energy", energy)
    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/completions", silence)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield served
    await runner.cleanup()


@pytest.fixture
async def roster(tmp_path: Path, telemetry: Telemetry) -> AsyncIterator[Roster]:
    roster = Roster(lambda _request_id, _joules: None, stall_seconds=STALL_SECONDS)
    engine = RemoteEngine("w", f"unix:{tmp_path}/engine.sock")
    supervisor = Supervisor(engine, lambda _: None, lambda _: None, time.monotonic, 1)
    roster.add(supervisor)
    roster.engine_ready("w", EngineReady(frozenset({"m"}), metered=True))
    supervisor.state = WorkerState.READY
    yield roster
    await roster.close()


def member(roster: Roster) -> Member:
    (only,) = roster.members()
    return only


@pytest.mark.parametrize(
    "report",
    [
        {"accounts_microjoules": 5},
        {"accounts_microjoules": {"gpu": {"idle": "much"}}},
        {"running_requests": "some"},
        {"recent_requests": [{"outcome": "aborted"}]},
        {"in_flight_microjoules": [1]},
        {"work": {"steps_total": -1}},
        {"work": 7},
    ],
)
async def test_a_report_that_cannot_be_read_is_a_warning_and_no_more(
    roster: Roster, telemetry: Telemetry, report: Any, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.report = report
    with caplog.at_level(logging.WARNING):
        await roster.refresh()
    assert "worker w sent an energy report we cannot read" in caplog.text
    telemetry.report = {"instance_id": "a", "accounts_microjoules": {"gpu": {"idle": 3}}}
    await roster.refresh()
    assert dict(member(roster).energy.totals())["gpu", "idle"] == 3


async def test_a_worker_that_is_not_ready_draws_nothing(roster: Roster, telemetry: Telemetry) -> None:
    telemetry.report = {"instance_id": "a", "power_watts": {"gpu": 5.0}}
    await roster.refresh()
    assert member(roster).energy.power_watts == {"gpu": 5.0}
    member(roster).supervisor.state = WorkerState.BACKING_OFF
    await roster.refresh()
    assert member(roster).energy.power_watts == {}
    assert roster.ready() == []


@contextlib.asynccontextmanager
async def polling(roster: Roster) -> AsyncIterator[list[WorkerReported]]:
    told: list[WorkerReported] = []
    task = asyncio.create_task(roster.poll(told.append))
    try:
        yield told
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_polling_ends_even_as_a_worker_becomes_ready(roster: Roster, telemetry: Telemetry) -> None:
    telemetry.report = {"instance_id": "a"}
    async with polling(roster):
        await asyncio.sleep(0.5)
        roster.engine_ready("w", EngineReady(frozenset({"m"}), metered=True))


async def ask(roster: Roster) -> str:
    """A request that this engine never answers; what became of it."""
    client = roster.client("w")
    assert client is not None
    answer = roster.sent("w")
    try:
        await client.send("POST", "/v1/completions", [], b"{}")
    except EngineUnreachableError:
        return "broke off"
    finally:
        answer.end()
    return "answered"


async def test_reports_carry_what_the_engine_has_done(roster: Roster, telemetry: Telemetry) -> None:
    telemetry.report = {"instance_id": "a", "source": "estimate", "running_requests": 2, "work": WORK} | {
        "accounts_microjoules": {"cpu": {"idle": 1_000_000, "loading": 500_000}}
    }
    async with polling(roster) as told:
        await asyncio.sleep(0.3)
        assert told == [WorkerReported("w", 2, 0, work=WorkReport(3, 0.5, 8, 40, 1.5, 0.5))]
        telemetry.report = {"work": {"steps_total": "many"}}
        await asyncio.sleep(1.2)
        assert len(told) == 1, "nothing new was said that could be read"
        telemetry.report = {"instance_id": "a"}
        await asyncio.sleep(1.0)
        assert told[1:] == [WorkerReported("w", 0, 0)]


async def test_an_engine_that_stands_still_loses_its_connections(roster: Roster, telemetry: Telemetry) -> None:
    telemetry.report = {"instance_id": "a", "work": WORK}
    async with polling(roster):
        asked = asyncio.create_task(ask(roster))
        await asyncio.sleep(STALL_SECONDS - 0.5)
        assert not asked.done()
        assert await asyncio.wait_for(asked, 3.0) == "broke off"
        assert roster.client("w") is None
        assert roster.ready() == []
        assert telemetry.probes == 0
        roster.engine_ready("w", EngineReady(frozenset({"m"}), metered=True))
        assert roster.client("w") is not None


async def test_one_that_does_not_say_what_it_does_is_asked_whether_it_is_there(
    roster: Roster, telemetry: Telemetry
) -> None:
    telemetry.report = {"instance_id": "a"}
    async with polling(roster):
        asked = asyncio.create_task(ask(roster))
        await asyncio.sleep(2 * STALL_SECONDS)
        assert not asked.done(), "its answer may be a long one"
        assert telemetry.probes >= 3
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
