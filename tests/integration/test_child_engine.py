"""An engine of our own lives and dies with us: started, watched, restarted, and never left behind."""

import asyncio
import contextlib
import inspect
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from scheduler.events import WorkerEvent, WorkerLost, WorkerReady
from tests.integration.process_session import is_alive, processes_of
from tests.integration.processes import DEADLINE_SECONDS, eventually
from workers.child_engine import ChildEngine
from workers.client import EngineClient
from workers.engine import EngineReady
from workers.errors import EngineStartError
from workers.supervisor import Supervisor, WorkerState

PYTHON = sys.executable
READY = EngineReady(models=frozenset({"fake"}), metered=True)


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The server runs on uvloop; what it says of processes differs from asyncio's own in detail."""

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    run.__name__ = test.__name__
    own = inspect.signature(run).parameters["new_loop"]
    run.__signature__ = inspect.Signature([own, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    on_each: Callable[..., None] = pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)
    return on_each


def fake(socket: Path) -> Sequence[str]:
    return (PYTHON, "-m", "workers.fake", "--uds", str(socket))


def fake_with_grandchild(socket: Path) -> Sequence[str]:
    """As vLLM's engine core: a process that the engine started and that does not end with it."""
    return ("sh", "-c", f"sleep 60 & exec {PYTHON} -m workers.fake --uds {socket}")


@contextlib.asynccontextmanager
async def child_engine(command: Callable[[Path], Sequence[str]]) -> AsyncIterator[ChildEngine]:
    engine = ChildEngine("w", command, os.environ, lambda _worker_id, _line: None)
    try:
        yield engine
    finally:
        await engine.stop(grace_seconds=5.0)


@contextlib.asynccontextmanager
async def supervised(engine: ChildEngine) -> AsyncIterator["asyncio.Queue[WorkerEvent]"]:
    told: asyncio.Queue[WorkerEvent] = asyncio.Queue()
    supervisor = Supervisor(engine, told.put_nowait, lambda _: None, time.monotonic, max_running_requests=7)
    task = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await supervisor.stop(grace_seconds=5.0)
        assert supervisor.state is WorkerState.STOPPED


def is_ready(event: WorkerEvent) -> bool:
    assert isinstance(event, WorkerReady)
    assert event.start_seconds is not None
    assert 0.0 < event.start_seconds < DEADLINE_SECONDS
    return event == WorkerReady("w", READY.models, 7, can_park=True, start_seconds=event.start_seconds)


def session(engine: ChildEngine) -> int:
    assert engine.pid is not None
    return engine.pid


def engine_process(session_id: int) -> int:
    """The process that the guardian guards."""
    (found,) = [pid for pid in processes_of(session_id) if b"workers.fake" in command_line(pid) and pid != session_id]
    return found


def command_line(pid: int) -> bytes:
    return (Path("/proc") / str(pid) / "cmdline").read_bytes()


async def nothing_left(session_id: int) -> bool:
    return not processes_of(session_id)


@on_each_loop
async def test_it_becomes_ready_and_is_gone_after_stop() -> None:
    async with child_engine(fake) as engine:
        await engine.start()
        assert await engine.wait_ready() == READY
        path = engine.address.socket_path
        assert path is not None
        folder = path.parent
        assert folder.stat().st_mode & 0o777 == 0o700, "only this user may enter"
        assert len(os.fsencode(path)) <= 107, "the longest path of a unix socket"
        session_id = session(engine)
        assert len(processes_of(session_id)) == 2, "the guardian and the engine"
        asked_at_seconds = time.monotonic()
        await engine.stop(grace_seconds=5.0)
        assert time.monotonic() - asked_at_seconds < 5.0
        assert not processes_of(session_id)
        assert not folder.exists()


@on_each_loop
async def test_stop_ends_grandchildren_and_what_ignores_signals_within_its_grace() -> None:
    def deaf(socket: Path) -> Sequence[str]:
        return ("sh", "-c", f"trap '' TERM; sleep 60 & {PYTHON} -m workers.fake --uds {socket}; sleep 60")

    async with child_engine(deaf) as engine:
        await engine.start()
        await engine.wait_ready()
        session_id = session(engine)
        assert len(processes_of(session_id)) == 4
        asked_at_seconds = time.monotonic()
        await engine.stop(grace_seconds=1.0)
        assert time.monotonic() - asked_at_seconds < 3.0
        assert not processes_of(session_id)


@on_each_loop
async def test_stop_may_be_called_before_start_and_again() -> None:
    async with child_engine(fake) as engine:
        await engine.stop(grace_seconds=1.0)
        await engine.start()
        await engine.stop(grace_seconds=5.0)
        await engine.stop(grace_seconds=5.0)
        assert not processes_of(session(engine))


@on_each_loop
async def test_a_killed_engine_is_lost_and_comes_back() -> None:
    async with child_engine(fake_with_grandchild) as engine, supervised(engine) as told:
        assert is_ready(await told.get())
        first = session(engine)
        os.kill(engine_process(first), signal.SIGKILL)
        lost = await told.get()
        assert isinstance(lost, WorkerLost)
        assert (lost.worker_id, lost.may_return) == ("w", True)
        assert "exit code 137" in lost.cause
        assert is_ready(await told.get())
        assert session(engine) != first
        assert not processes_of(first)
        client = EngineClient(engine.address)
        assert await client.probe() == READY, "at its new address"
        await client.close()
    assert not processes_of(session(engine))


@on_each_loop
async def test_a_killed_guardian_leaves_nothing_behind() -> None:
    async with child_engine(fake_with_grandchild) as engine, supervised(engine) as told:
        assert isinstance(await told.get(), WorkerReady)
        first = session(engine)
        assert len(processes_of(first)) == 3
        os.kill(first, signal.SIGKILL)
        assert isinstance(await told.get(), WorkerLost)
        assert isinstance(await told.get(), WorkerReady)
        assert not processes_of(first)


@on_each_loop
async def test_a_command_that_fails_is_quoted() -> None:
    script = "import sys; print('loading'); sys.stderr.write('out of memory\\n'); sys.exit(3)"
    async with child_engine(lambda _: (PYTHON, "-c", script)) as engine:
        await engine.start()
        with pytest.raises(EngineStartError, match="w ended with exit code 3") as failure:
            await engine.wait_ready()
        assert set(failure.value.log_tail) == {"loading", "out of memory"}


@on_each_loop
async def test_of_a_long_output_the_last_lines_are_kept() -> None:
    script = "print('x' * 200_000); [print(n) for n in range(1000)]; raise SystemExit(1)"
    async with child_engine(lambda _: (PYTHON, "-c", script)) as engine:
        await engine.start()
        with pytest.raises(EngineStartError) as failure:
            await engine.wait_ready()
        assert failure.value.log_tail == tuple(str(n) for n in range(800, 1000))


@on_each_loop
async def test_a_command_that_is_not_there_fails_to_start() -> None:
    async with child_engine(lambda _: ("/no/such/engine",)) as engine:
        await engine.start()  # of the guardian, which finds nothing to guard
        with pytest.raises(EngineStartError) as failure:
            await engine.wait_ready()
        assert any("/no/such/engine" in line for line in failure.value.log_tail)


@on_each_loop
async def test_a_first_start_that_fails_ends_the_supervision() -> None:
    async with child_engine(lambda _: (PYTHON, "-c", "raise SystemExit(1)")) as engine:
        supervisor = Supervisor(engine, lambda _: None, lambda _: None, time.monotonic, 1)
        with pytest.raises(EngineStartError):
            await supervisor.run()


@on_each_loop
async def test_lines_are_told_as_they_come() -> None:
    lines: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    script = "import time; print('one', flush=True); time.sleep(60)"
    engine = ChildEngine("w", lambda _: (PYTHON, "-c", script), os.environ, lambda *line: lines.put_nowait(line))
    try:
        await engine.start()
        assert await asyncio.wait_for(lines.get(), DEADLINE_SECONDS) == ("w", "one")
    finally:
        await engine.stop(grace_seconds=5.0)


@on_each_loop
async def test_cores_bind_the_whole_tree() -> None:
    core = min(os.sched_getaffinity(0))
    engine = ChildEngine("w", fake, os.environ, lambda _worker_id, _line: None, cores=(core,))
    try:
        await engine.start()
        await engine.wait_ready()
        assert {frozenset(os.sched_getaffinity(pid)) for pid in processes_of(session(engine))} == {frozenset({core})}
    finally:
        await engine.stop(grace_seconds=5.0)


STARTER = """
import asyncio, os, sys
from pathlib import Path
from workers.child_engine import ChildEngine

def command(socket: Path):
    return ("sh", "-c", f"sleep 60 & exec {sys.executable} -m workers.fake --uds {socket}")

async def main():
    engine = ChildEngine("w", command, os.environ, lambda *line: None)
    await engine.start()
    await engine.wait_ready()
    print(engine.pid, engine.address.socket_path.parent, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@on_each_loop
async def test_nothing_outlives_the_process_that_started_it(number: signal.Signals) -> None:
    starter = await asyncio.create_subprocess_exec(PYTHON, "-c", STARTER, stdout=asyncio.subprocess.PIPE)
    try:
        assert starter.stdout is not None
        session_id, folder = (await asyncio.wait_for(starter.stdout.readline(), DEADLINE_SECONDS)).decode().split()
        assert len(processes_of(int(session_id))) == 3, "guardian, engine and its child"
    finally:
        starter.send_signal(number)
        await starter.wait()
    await eventually(lambda: nothing_left(int(session_id)), seconds=10.0)
    assert not is_alive(int(session_id))
    assert not is_there(folder), "nor does its socket"


def is_there(folder: str) -> bool:
    return Path(folder).exists()
