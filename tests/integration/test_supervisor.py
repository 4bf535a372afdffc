"""A worker under suspicion is asked until it answers, and then announced anew."""

import asyncio
import time
from pathlib import Path

from scheduler.events import WorkerEvent, WorkerReady
from tests.integration.processes import eventually, fake_engine
from workers.engine import EngineAddress, EngineReady
from workers.supervisor import Supervisor


class Lasting:
    """An engine that somebody else runs at a fixed place and that is never found lost."""

    worker_id = "w"
    can_park = False

    def __init__(self, address: EngineAddress) -> None:
        self.address = address

    async def start(self) -> None: ...

    async def wait_ready(self) -> EngineReady:
        return EngineReady(frozenset({"m"}), metered=False)

    async def wait_lost(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def stop(self, grace_seconds: float) -> None: ...


async def test_a_suspect_that_is_silent_at_first_is_announced_once_it_answers(tmp_path: Path) -> None:
    told: list[WorkerEvent] = []
    engine = Lasting(EngineAddress("http://engine", tmp_path / "nobody.sock"))
    supervisor = Supervisor(engine, told.append, lambda _: None, time.monotonic, 8)
    running = asyncio.create_task(supervisor.run())

    async def told_twice() -> bool:
        return len(told) == 2

    try:
        await asyncio.sleep(0.1)
        supervisor.suspect()
        await asyncio.sleep(1.2)
        assert len(told) == 1, "nobody answers there yet"
        async with fake_engine(tmp_path) as fake:
            engine.address = EngineAddress("http://engine", Path(fake.url.removeprefix("unix:")))
            await eventually(told_twice)
        assert told == [WorkerReady("w", frozenset({"m"}), 8)] * 2
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
