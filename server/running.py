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
from server.banner import StartFacts, banner_lines, heading
from server.composition import ServerParts, compose
from server.connection_limits import ConnectionLimits
from server.console import Console, address_of
from server.corked_protocol import protocol_with
from server.errors import StartError
from server.exit_summary import bills_of, served_by, summary_line
from server.hangup import Hangup
from server.preparation import Prepared
from server.reload import Reloader, ReloadHook
from server.served_models import ServedModel
from server.settings import Settings
from server.start_progress import EngineLines, say_progress
from workers.errors import EngineStartError
from workers.open_files import raise_open_files_limit

ReadAgain = Callable[[], Settings]

# With the 8 seconds of drain_seconds under the 15 in which Ctrl-C must have ended everything.
_INTERRUPT_SECONDS: Final = 1.0
_LAST_STEP_SECONDS: Final = 0.3
_STOP_SECONDS: Final = 4.0
_STDERR: Final = 2
# Allocations between two looks for cyclic garbage; a request makes hundreds of objects and hardly a cycle.
_GARBAGE_THRESHOLD: Final = 20_000
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
    settings: Settings, models: Sequence[ServedModel], prepared: Prepared, console: Console, read_again: ReadAgain
) -> None:
    """Serve until SIGINT or SIGTERM. On SIGHUP the settings are read again, and what can be is taken up.

    Raises:
        EngineStartError: an engine did not come up.
    """
    started_at = time.monotonic()
    raise_open_files_limit()
    carbon = prepared.carbon.account if prepared.carbon is not None else None
    lines = EngineLines(logging.getLogger("wattline.engine"))
    parts = compose(settings, models, lines, carbon, prepared.tracing)
    server = _http_server(settings, parts, prepared)
    address = address_of(prepared.listener, tls=prepared.tls is not None)
    stopping, hurry = asyncio.Event(), asyncio.Event()
    hooks = (*parts.reload_hooks, *_own_hooks(prepared, server))
    _take_signals(stopping, hurry, Reloader(settings, read_again, hooks, parts.reloadable).reload)
    facts = _facts(settings, models, prepared, parts, address)
    console.banner(heading(facts), banner_lines(facts))
    _spare_garbage_collection()
    serving = asyncio.create_task(server.serve(sockets=[prepared.listener]), name="http server")
    tasks = _start_tasks(parts, prepared)
    progress = say_progress(console, parts.supervisors, lines.phase, address, started_at)
    tasks.append(asyncio.create_task(progress, name="progress"))
    try:
        await _until_stopped(stopping, tasks)
    finally:
        if stopping.is_set():
            console.say("stopping: finishing the requests in flight (Ctrl-C again does not wait)")
            await _drain(parts, hurry, settings.drain_seconds)
        await _stop(parts, server, serving, tasks)
        if stopping.is_set():
            bills = bills_of(parts.roster)
            console.say(summary_line(served_by(parts.tally), bills, time.monotonic() - started_at))


def _facts(
    settings: Settings, models: Sequence[ServedModel], prepared: Prepared, parts: ServerParts, address: str
) -> StartFacts:
    host = prepared.listener.getsockname()[0]
    return StartFacts(settings, models, prepared.meter, parts.targets, address, host, has_keys=parts.gate.has_keys)


def _take_signals(stopping: asyncio.Event, hurry: asyncio.Event, reload: Callable[[], None]) -> None:
    """The first signal to stop is an order to finish, the second one to be quick."""

    def on_signal() -> None:
        (hurry if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, Hangup(_STDERR, reload, on_signal))


def _spare_garbage_collection() -> None:
    """What is there now stays for good: looking through it again and again for garbage is a tenth of our CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)


def _start_tasks(parts: ServerParts, prepared: Prepared) -> list[asyncio.Task[None]]:
    """What runs beside the HTTP server for as long as it does."""
    tasks = [
        asyncio.create_task(supervisor.run(), name=f"supervise {supervisor.engine.worker_id}")
        for supervisor in parts.supervisors
    ]
    tasks.append(asyncio.create_task(parts.roster.poll(parts.driver.tell), name="poll workers"))
    if prepared.carbon is not None and prepared.carbon.run is not None:
        tasks.append(asyncio.create_task(prepared.carbon.run(), name="grid carbon"))
    return tasks


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


def explain_start_failure(error: EngineStartError) -> str:
    """What to show when an engine did not come up: what happened, and its own last words."""
    tail = "\n".join(f"  | {line}" for line in error.log_tail[-_SHOWN_LOG_LINES:])
    return f"{error}\n{tail}" if tail else str(error)
