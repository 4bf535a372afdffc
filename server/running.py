"""Runs a server from its first line on the terminal to its last: start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import uvicorn

from server.api_error import ApiError
from server.composition import ServerParts, compose
from server.connection_limits import ConnectionLimits
from server.console import Console, address_of, say_starting, say_summary, say_who_may_ask
from server.corked_protocol import protocol_with
from server.errors import StartError
from server.hangup import Hangup
from server.latency_targets import describe_targets
from server.preparation import Prepared
from server.reload import Reloader, ReloadHook
from server.served_models import ServedModel
from server.settings import Settings
from workers.errors import EngineStartError
from workers.open_files import raise_open_files_limit
from workers.supervisor import Supervisor, WorkerState

logger = logging.getLogger("wattline.server")

# With the 8 seconds of drain_seconds under the 15 in which Ctrl-C must have ended everything.
_INTERRUPT_SECONDS: Final = 1.0
_LAST_STEP_SECONDS: Final = 0.3
_STOP_SECONDS: Final = 4.0
_STDERR: Final = 2
# Allocations between two looks for cyclic garbage; a request makes hundreds of objects and hardly a cycle.
_GARBAGE_THRESHOLD: Final = 20_000
_HEARTBEAT_SECONDS: Final = 10.0
_SHOWN_LOG_LINES: Final = 20


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: draining the engines comes before closing the connections."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(settings: Settings) -> socket.socket:
    """Take the port before anything slow is started.

    Raises:
        StartError: the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except (OSError, TypeError, ValueError) as error:  # the latter two from hosts that are no names at all
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"cannot listen on {ascii(settings.host)[1:-1]}:{settings.port}: {reason}") from error
    listener.setblocking(False)  # noqa: FBT003  # the socket module's signature
    return listener


async def run(
    settings: Settings, models: Sequence[ServedModel], prepared: Prepared, read_again: Callable[[], Settings]
) -> None:
    """Serve until SIGINT or SIGTERM. On SIGHUP the settings are read again, and what can be is taken up.

    Raises:
        EngineStartError: an engine did not come up.
    """
    started_at = time.monotonic()
    raise_open_files_limit()
    carbon = prepared.carbon.account if prepared.carbon is not None else None
    parts = compose(settings, models, _line_logger(), carbon, prepared.tracing)
    server = _http_server(settings, parts, prepared)
    console = Console(settings.log_format)
    address = address_of(prepared.listener, tls=prepared.tls is not None)
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    hooks = (*parts.reload_hooks, *_own_hooks(prepared, server))
    reloader = Reloader(settings, read_again, hooks, parts.reloadable)
    loop.add_signal_handler(signal.SIGHUP, Hangup(_STDERR, reloader.reload, on_signal))
    say_starting(console, models, address)
    say_who_may_ask(console, parts, prepared.listener)
    console.say(f"policy {settings.policy}, targets {describe_targets(parts.targets)}")
    # What is there now stays for good: looking through it again and again for garbage is a tenth of our CPU time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    serving = asyncio.create_task(server.serve(sockets=[prepared.listener]), name="http server")
    tasks = [
        asyncio.create_task(supervisor.run(), name=f"supervise {supervisor.engine.worker_id}")
        for supervisor in parts.supervisors
    ]
    tasks.append(asyncio.create_task(parts.roster.poll(parts.driver.tell), name="poll workers"))
    if prepared.carbon is not None and prepared.carbon.run is not None:
        tasks.append(asyncio.create_task(prepared.carbon.run(), name="grid carbon"))
    tasks.append(asyncio.create_task(_say_progress(console, parts.supervisors, address, started_at), name="progress"))
    try:
        await _until_stopped(stopping, tasks)
    finally:
        if stopping.is_set():
            console.say("stopping: finishing the requests in flight (Ctrl-C again does not wait)")
            await _drain(parts, hurry, settings.drain_seconds)
        await _stop(parts, server, serving, tasks)
        if stopping.is_set():
            say_summary(console, parts, time.monotonic() - started_at)


def _http_server(settings: Settings, parts: ServerParts, prepared: Prepared) -> _Server:
    config = uvicorn.Config(
        parts.app,
        http=protocol_with(ConnectionLimits(settings.head_timeout_seconds, settings.body_stall_seconds)),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=1,
        **(prepared.tls.uvicorn_options() if prepared.tls is not None else {}),
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return _Server(config)


def _own_hooks(prepared: Prepared, server: _Server) -> Iterator[ReloadHook]:
    """What is read again whatever the file says: it lies in files of its own."""
    tls, context, carbon = prepared.tls, server.config.ssl, prepared.carbon
    if tls is not None and context is not None:
        yield lambda _: tls.reload(context)
    if carbon is not None and (reload := carbon.reload) is not None:
        yield lambda _: reload()


async def _until_stopped(stopping: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the signal; a task that fails first raises here."""
    signalled = asyncio.create_task(stopping.wait(), name="wait for a signal")
    pending: set[asyncio.Task[bool] | asyncio.Task[None]] = {signalled, *tasks}
    try:
        while not signalled.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        signalled.cancel()


async def _drain(parts: ServerParts, hurry: asyncio.Event, drain_seconds: float) -> None:
    """Refuse new requests and give those in flight some seconds; a second signal cuts the wait short."""
    parts.driver.start_drain()
    waits = [asyncio.create_task(parts.driver.drained()), asyncio.create_task(hurry.wait())]
    await asyncio.wait(waits, timeout=drain_seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    parts.proxy.interrupt(ApiError(503, "the server is stopping", "draining", headers={"Retry-After": "10"}))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(parts.driver.drained(), _INTERRUPT_SECONDS)
    # An engine tells of a request that was cut off once the step it was in is over.
    await asyncio.sleep(_LAST_STEP_SECONDS)
    await parts.roster.refresh()


async def _stop(
    parts: ServerParts, server: uvicorn.Server, serving: asyncio.Task[None], tasks: list[asyncio.Task[None]]
) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    server.should_exit = True
    await asyncio.gather(
        serving, *(supervisor.stop(_STOP_SECONDS) for supervisor in parts.supervisors), return_exceptions=True
    )
    await parts.roster.close()
    parts.driver.close()
    if parts.keys is not None:
        await asyncio.to_thread(parts.keys.stop)
    await parts.books.kept()
    await parts.ledger.close()


async def _say_progress(console: Console, supervisors: tuple[Supervisor, ...], address: str, started_at: float) -> None:
    """Say every few seconds what is still being waited for, and how to begin once a worker is ready."""
    next_heartbeat = started_at + _HEARTBEAT_SECONDS
    while not any(supervisor.state is WorkerState.READY for supervisor in supervisors):
        await asyncio.sleep(0.1)
        if time.monotonic() >= next_heartbeat:
            next_heartbeat += _HEARTBEAT_SECONDS
            waiting = ", ".join(s.engine.worker_id for s in supervisors if s.state is not WorkerState.READY)
            console.say(f"  loading {waiting}: {time.monotonic() - started_at:.0f} s")
    console.say(f"ready after {time.monotonic() - started_at:.1f} s on {address}  (Ctrl-C stops)")


def _line_logger() -> "EngineLines":
    return EngineLines(logging.getLogger("wattline.engine"))


class EngineLines:
    """Engines' output, at debug level: it may quote what callers sent, which is logged only when asked for."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log

    def __call__(self, worker_id: str, line: str) -> None:
        self._log.debug("%s: %s", worker_id, line)


def explain_start_failure(error: EngineStartError) -> str:
    """What to show when an engine did not come up: what happened, and its own last words."""
    tail = "\n".join(f"  | {line}" for line in error.log_tail[-_SHOWN_LOG_LINES:])
    return f"{error}\n{tail}" if tail else str(error)
