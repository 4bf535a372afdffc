"""What the supervisor relies on of every kind of engine, over real processes on this machine."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.integration.process_session import processes_of
from tests.integration.processes import EngineProcess, ended, spawn
from workers.child_engine import ChildEngine
from workers.client import EngineClient
from workers.engine import Engine, EngineReady
from workers.remote_engine import RemoteEngine

READY = EngineReady(models=frozenset({"fake"}), metered=True)
FAKE = (sys.executable, "-m", "workers.fake")


class Stage(Protocol):
    """An engine, and what the world does to it."""

    @property
    def engine(self) -> Engine: ...

    @property
    def is_ours(self) -> bool:
        """Whether we start and stop its process."""

    async def let_run(self) -> None:
        """From now on the engine can come up."""

    async def kill(self) -> None:
        """The engine's process dies."""


class ChildStage:
    is_ours = True

    def __init__(self) -> None:
        self.engine = ChildEngine("w1", lambda uds: (*FAKE, "--uds", str(uds)), os.environ, lambda _worker, _line: None)

    async def let_run(self) -> None:
        """It starts its process itself."""

    async def kill(self) -> None:
        assert self.engine.pid is not None
        for pid in processes_of(self.engine.pid) - {self.engine.pid}:
            os.kill(pid, signal.SIGKILL)


class RemoteStage:
    is_ours = False

    def __init__(self, engine: RemoteEngine, where: Sequence[str], folder: Path) -> None:
        self.engine = engine
        self._command = [*FAKE, *where]
        self._log = folder / "engine.log"
        self._process: EngineProcess | None = None

    async def let_run(self) -> None:
        self._process = EngineProcess(self._log, spawn(self._command, self._log))

    async def kill(self) -> None:
        if self._process is not None:
            self._process.process.kill()
            await ended(self._process.process, 5.0)


@contextlib.asynccontextmanager
async def child(_: Path) -> AsyncIterator[Stage]:
    stage = ChildStage()
    yield stage
    await stage.engine.stop(grace_seconds=5.0)


@contextlib.asynccontextmanager
async def remote_on_unix_socket(folder: Path) -> AsyncIterator[Stage]:
    uds = folder / "engine.sock"
    stage = RemoteStage(RemoteEngine("w1", f"unix:{uds}"), ("--uds", str(uds)), folder)
    yield stage
    await stage.kill()


@contextlib.asynccontextmanager
async def remote_on_tcp(folder: Path) -> AsyncIterator[Stage]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stage = RemoteStage(RemoteEngine("w1", f"http://127.0.0.1:{port}"), ("--port", str(port)), folder)
    yield stage
    await stage.kill()


STAGES: list[Callable[[Path], AbstractAsyncContextManager[Stage]]] = [child, remote_on_unix_socket, remote_on_tcp]


@pytest.fixture(params=STAGES, ids=lambda stage: stage.__name__)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    async with request.param(tmp_path) as staged:
        yield staged


async def test_its_id_is_the_one_it_was_given(stage: Stage) -> None:
    assert stage.engine.worker_id == "w1"


async def test_it_can_be_parked_where_its_process_is_ours(stage: Stage) -> None:
    assert stage.engine.can_park is stage.is_ours


async def test_a_stopped_process_ends_at_once_where_no_grace_is_given(stage: Stage) -> None:
    if not stage.is_ours:
        return
    await stage.let_run()
    await stage.engine.start()
    await stage.engine.wait_ready()
    assert isinstance(stage.engine, ChildEngine)
    assert stage.engine.pid is not None
    processes = processes_of(stage.engine.pid)
    assert len(processes) == 2
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(2.0):
        await stage.engine.stop(grace_seconds=0.0)
    assert not processes_of(stage.engine.pid)


async def test_a_ready_engine_serves_at_its_address(stage: Stage) -> None:
    await stage.let_run()
    await stage.engine.start()
    assert await stage.engine.wait_ready() == READY
    client = EngineClient(stage.engine.address)
    assert await client.probe() == READY
    await client.close()


async def test_a_running_engine_is_not_lost_and_a_killed_one_is_with_a_cause(stage: Stage) -> None:
    await stage.let_run()
    await stage.engine.start()
    await stage.engine.wait_ready()
    lost = asyncio.create_task(stage.engine.wait_lost())
    done, _ = await asyncio.wait((lost,), timeout=0.3)
    assert not done
    await stage.kill()
    cause = await asyncio.wait_for(lost, 20.0)
    assert cause
    assert "\n" not in cause


async def test_an_engine_that_was_lost_comes_up_again(stage: Stage) -> None:
    for _ in range(2):
        await stage.let_run()
        await stage.engine.start()
        assert await stage.engine.wait_ready() == READY
        await stage.kill()
        await stage.engine.stop(grace_seconds=1.0)


async def test_waiting_can_be_given_up(stage: Stage) -> None:
    await stage.engine.start()
    for wait in (stage.engine.wait_ready, stage.engine.wait_lost):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_stop_does_no_harm_before_start_nor_twice(stage: Stage) -> None:
    await stage.engine.stop(grace_seconds=1.0)
    await stage.let_run()
    await stage.engine.start()
    await stage.engine.wait_ready()
    await stage.engine.stop(grace_seconds=5.0)
    await stage.engine.stop(grace_seconds=5.0)
