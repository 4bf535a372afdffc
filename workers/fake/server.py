"""The fake engine as a running server: loading, listening, stopping."""

import asyncio
import contextlib
import ctypes
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from workers.fake.accounts import EnergyAccounts
from workers.fake.engine import Engine
from workers.fake.protocol import HttpConnection
from workers.fake.routes import Routes
from workers.fake.settings import FakeSettings
from workers.open_files import raise_open_files_limit

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LISTEN_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: a unix socket's path, or a host and port."""

    uds: Path | None
    host: str
    port: int


def run(settings: FakeSettings, listen: Listen) -> None:
    """Serves until SIGTERM or SIGINT. As with the real engine, nothing listens while it loads."""
    raise_open_files_limit()
    uvloop.run(_serve(settings, listen))


def die_with_parent() -> None:
    """Asks the kernel for SIGTERM when the thread that started this process ends (Linux, prctl(2))."""
    if not sys.platform.startswith("linux"):
        raise OSError("dying with the parent needs Linux")
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


async def _serve(settings: FakeSettings, listen: Listen) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = time.monotonic_ns
    accounts = EnergyAccounts(clock, idle_watts=settings.idle_watts, active_watts=settings.active_watts)
    routes = Routes(Engine(settings, accounts, loop, clock))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), settings.startup_seconds or 1e-6)
    if stop.is_set():
        return
    accounts.ready()
    server = await _listen(loop, routes, listen)
    await stop.wait()
    server.close()
    if listen.uds is not None:
        listen.uds.unlink(missing_ok=True)


async def _listen(loop: asyncio.AbstractEventLoop, routes: Routes, listen: Listen) -> asyncio.AbstractServer:
    def connection() -> HttpConnection:
        return HttpConnection(routes.handle)

    if listen.uds is not None:
        # uvloop removes a stale socket of an earlier process itself.
        return await loop.create_unix_server(connection, str(listen.uds), backlog=LISTEN_BACKLOG)
    return await loop.create_server(connection, listen.host, listen.port, backlog=LISTEN_BACKLOG)
