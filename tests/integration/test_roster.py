"""The roster against a worker whose telemetry is not what we expect; an engine in the test, no network."""

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from server.roster import Member, Roster
from workers.engine import EngineReady
from workers.remote_engine import RemoteEngine
from workers.supervisor import Supervisor, WorkerState


class Telemetry:
    def __init__(self) -> None:
        self.report: Any = {}


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Telemetry]:
    served = Telemetry()

    async def energy(_: web.Request) -> web.Response:
        return web.json_response(served.report)

    application = web.Application()
    application.router.add_get("/energy", energy)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield served
    await runner.cleanup()


@pytest.fixture
async def roster(tmp_path: Path, telemetry: Telemetry) -> AsyncIterator[Roster]:
    roster = Roster(lambda _request_id, _joules: None)
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
