"""A whole server inside the test, over real engine processes that the test may stop, park and kill."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from scheduler.events import WorkerEvent
from server.composition import ServerParts, compose
from server.roster import Member
from server.running import listen
from server.settings import Settings
from server.tracing import NoTracing
from tests.integration.process_session import processes_of
from tests.integration.processes import DEADLINE_SECONDS, eventually
from workers.child_engine import ChildEngine
from workers.engine import Engine, EngineReady
from workers.progress import WorkerProgress
from workers.remote_engine import RemoteEngine
from workers.supervisor import Supervisor, WorkerState

Told = tuple[float, WorkerEvent]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running server; `told` is what its supervisors have said, with the instants."""

    url: str
    parts: ServerParts
    told: list[Told]

    def worker(self, worker_id: str) -> Member:
        (found,) = (member for member in self.parts.roster.members() if member.worker_id == worker_id)
        return found

    def events(self, worker_id: str) -> list[WorkerEvent]:
        return [event for _, event in self.told if event.worker_id == worker_id]

    def engine_pid(self, worker_id: str) -> int:
        """The process that the guardian of a child engine guards."""
        engine = self.worker(worker_id).supervisor.engine
        assert isinstance(engine, ChildEngine)
        assert engine.pid is not None
        (found,) = processes_of(engine.pid) - {engine.pid}
        return found

    async def is_in(self, worker_id: str, state: WorkerState) -> bool:
        return self.worker(worker_id).supervisor.state is state


@contextlib.asynccontextmanager
async def fleet(
    engines: Sequence[Engine], *, stall_seconds: float = 60.0, ready_seconds: float = DEADLINE_SECONDS
) -> AsyncIterator[Fleet]:
    """Serve over `engines`; yields once all are ready."""
    # What is served from is put together here, engine by engine.
    settings = Settings(port=0, policy="round-robin", ledger_url="none")
    parts = compose(settings, (), lambda _worker_id, _line: None, None, NoTracing())
    told: list[Told] = []
    supervisors = [_supervise(parts, engine, told) for engine in engines]
    for member in parts.roster.members():
        member.progress = WorkerProgress(stall_seconds)
    listener = listen(settings)
    server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, access_log=False, lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # of older versions
    tasks = [asyncio.create_task(supervisor.run()) for supervisor in supervisors]
    tasks.append(asyncio.create_task(parts.roster.poll(parts.driver.tell)))
    serving = asyncio.create_task(server._serve(sockets=[listener]))
    running = Fleet(f"http://127.0.0.1:{listener.getsockname()[1]}", parts, told)

    async def all_ready() -> bool:
        return len(parts.roster.ready()) == len(engines)

    try:
        await eventually(all_ready, ready_seconds)
        yield running
        for task in tasks:
            assert not task.done(), task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.should_exit = True
        await serving
        await asyncio.gather(*(supervisor.stop(1.0) for supervisor in supervisors))
        await parts.roster.close()
        parts.driver.close()
        listener.close()


def child(worker_id: str, *arguments: str) -> ChildEngine:
    return ChildEngine(
        worker_id,
        lambda uds: (sys.executable, "-m", "workers.fake", "--uds", str(uds), *arguments),
        os.environ,
        lambda _worker_id, _line: None,
    )


def remote(worker_id: str, uds: Path) -> RemoteEngine:
    return RemoteEngine(worker_id, f"unix:{uds}")


def _supervise(parts: ServerParts, engine: Engine, told: list[Told]) -> Supervisor:
    def tell(event: WorkerEvent) -> None:
        told.append((time.monotonic(), event))
        parts.driver.tell(event)

    def on_ready(ready: EngineReady) -> None:
        parts.roster.engine_ready(engine.worker_id, ready)

    supervisor = Supervisor(engine, tell, on_ready, time.monotonic, 64)
    parts.roster.add(supervisor)
    return supervisor
