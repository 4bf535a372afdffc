"""What an operator sets about running the server: logs, deadlines at the end, files read again."""

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import END_SECONDS, FrontEnd, ended, eventually, fake_engine, front_end


async def test_files_are_read_again_and_logs_for_machines_are_objects_to_the_last_line(tmp_path: Path) -> None:
    file = tmp_path / "grid.csv"
    file.write_text("datetime,gco2eq_per_kwh\n2026-01-01,100\n")
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url, log_format="json", no_such_setting=1, carbon__file=file) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        assert (await ask(client, CHAT, HELLO | {"max_tokens": 1})).status == 200
        file.write_text("datetime,gco2eq_per_kwh\n2026-01-01,100\n2026-01-02,110\n")
        server.process.send_signal(signal.SIGHUP)
        await eventually(logged(server, "reload: carbon: 2 rows of grid.csv"))
        file.write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        await eventually(logged(server, "that stays as it was"))
        server.process.terminate()
        assert await ended(server.process, END_SECONDS) == 0
        lines = [json.loads(line) for line in server.output().splitlines()]
    assert all({"time", "level", "logger", "event"} <= line.keys() for line in lines)
    (complaint,) = (line["event"] for line in lines if line["level"] == "error")
    assert complaint.startswith(f"reload: carbon.file = '{file}': expected the columns")
    assert lines[0]["level"] == "warning"
    assert "WATTLINE_NO_SUCH_SETTING" in lines[0]["event"]
    assert lines[-1]["event"].startswith("stopped after")


async def test_the_end_comes_after_the_seconds_it_was_given(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url, drain_seconds=0.2) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        hanging = asyncio.create_task(ask(client, CHAT, HELLO | {"fake_hang": True}))
        await eventually(lambda: engine.runs(1))
        asked_at_seconds = time.monotonic()
        server.process.terminate()
        assert await ended(server.process, END_SECONDS) == 0
        assert time.monotonic() - asked_at_seconds < 6.0, "under the 8 seconds that are the default"
        assert (await hanging).error()["code"] == "draining"


def logged(server: FrontEnd, text: str) -> Callable[[], Awaitable[bool]]:
    async def is_there() -> bool:
        return text in server.output()

    return is_there
