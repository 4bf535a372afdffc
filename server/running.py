"""Runs a server from its first line on the terminal to its last: start, serve, drain, stop."""

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

import uvicorn

from server.api_error import ApiError
from server.composition import ServerParts, compose
from server.corked_protocol import CorkedHttpProtocol
from server.errors import StartError
from server.latency_targets import describe_targets
from server.served_models import ServedModel
from server.settings import Settings
from workers.errors import EngineStartError
from workers.open_files import raise_open_files_limit
from workers.supervisor import Supervisor, WorkerState

logger = logging.getLogger("wattline.server")

# Together under the 15 seconds in which Ctrl-C must have ended everything.
_DRAIN_SECONDS: Final = 8.0
_INTERRUPT_SECONDS: Final = 1.0
_LAST_STEP_SECONDS: Final = 0.3
_STOP_SECONDS: Final = 4.0
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


async def run(settings: Settings, models: Sequence[ServedModel], listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        EngineStartError: an engine did not come up.
    """
    started_at = time.monotonic()
    raise_open_files_limit()
    parts = compose(settings, models, _line_logger())
    server = _Server(
        uvicorn.Config(
            parts.app,
            http=CorkedHttpProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    _say_starting(models, listener)
    _say_who_may_ask(parts, listener)
    _say(f"policy {settings.policy}, targets {describe_targets(parts.targets)}")
    # What is there now stays for good: looking through it again and again for garbage is a tenth of our CPU time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
    tasks = [
        asyncio.create_task(supervisor.run(), name=f"supervise {supervisor.engine.worker_id}")
        for supervisor in parts.supervisors
    ]
    tasks.append(asyncio.create_task(parts.roster.poll(parts.driver.tell), name="poll workers"))
    tasks.append(asyncio.create_task(_say_progress(parts.supervisors, listener, started_at), name="progress"))
    try:
        await _until_stopped(stopping, tasks)
    finally:
        if stopping.is_set():
            await _drain(parts, hurry)
        await _stop(parts, server, serving, tasks)
        if stopping.is_set():
            _say_summary(parts, time.monotonic() - started_at)


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


async def _drain(parts: ServerParts, hurry: asyncio.Event) -> None:
    """Refuse new requests and give those in flight some seconds; a second signal cuts the wait short."""
    _say("stopping: finishing the requests in flight (Ctrl-C again does not wait)")
    parts.driver.start_drain()
    waits = [asyncio.create_task(parts.driver.drained()), asyncio.create_task(hurry.wait())]
    await asyncio.wait(waits, timeout=_DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
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


# -- what the terminal shows -------------------------------------------------------------------------------------


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # whoever read our output may be gone; the callers are not
        sys.stderr.write(f"wattline: {text}\n")
        sys.stderr.flush()


def _say_starting(models: Sequence[ServedModel], listener: socket.socket) -> None:
    attached = sum(len(model.worker_ids) for model in models if model.is_attached)
    if attached:
        _say(f"attaching to {attached} running server(s), listening on {_address(listener)}")
    for model in models:
        if not model.is_attached:
            _say(f"starting {len(model.worker_ids)} vLLM engine(s) on {model.device} with {model.names[0]}")


def _say_who_may_ask(parts: ServerParts, listener: socket.socket) -> None:
    host = listener.getsockname()[0]
    if parts.gate.has_keys:
        _say("callers need a key (wattline keys list)")
    elif not ipaddress.ip_address(host).is_loopback:
        _say(f"WARNING: {host} can be reached from other machines, and there are no keys: anyone may send requests")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _say_progress(supervisors: tuple[Supervisor, ...], listener: socket.socket, started_at: float) -> None:
    """Say every few seconds what is still being waited for, and how to begin once a worker is ready."""
    address = _address(listener)
    next_heartbeat = started_at + _HEARTBEAT_SECONDS
    while not any(supervisor.state is WorkerState.READY for supervisor in supervisors):
        await asyncio.sleep(0.1)
        if time.monotonic() >= next_heartbeat:
            next_heartbeat += _HEARTBEAT_SECONDS
            waiting = ", ".join(s.engine.worker_id for s in supervisors if s.state is not WorkerState.READY)
            _say(f"  loading {waiting}: {time.monotonic() - started_at:.0f} s")
    _say(f"ready after {time.monotonic() - started_at:.1f} s on {address}  (Ctrl-C stops)")


def _say_summary(parts: ServerParts, seconds: float) -> None:
    requests = tokens = 0.0
    for family in parts.metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "wattline_requests_total":
                requests += sample.value
            elif sample.name == "wattline_tokens_total" and sample.labels["kind"] == "output":
                tokens += sample.value
    microjoules: dict[str, int] = {}
    for member in parts.roster.members():
        for (_, account), energy in member.energy.totals():
            microjoules[account] = microjoules.get(account, 0) + energy
    used = (microjoules.get("prefill", 0) + microjoules.get("decode", 0)) / 1e6
    rest = ", ".join(f"{name} {microjoules.get(name, 0) / 1e6:.1f} J" for name in ("idle", "loading", "unattributed"))
    per_token = f" ({used / tokens:.3f} J per output token)" if tokens else ""
    _say(
        f"stopped after {seconds:.0f} s: {requests:.0f} requests, {tokens:.0f} output tokens, "
        f"requests {used:.1f} J{per_token}, {rest}"
    )


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
