"""Fake engines and front ends as processes of their own, on loopback only; whatever happens, they are ended."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from workers.guardian import die_with_parent

# Long enough for a machine that is busy with other tests, and less than a test may take.
DEADLINE_SECONDS = 45.0
# The server promises to be gone 15 seconds after it was told to stop.
END_SECONDS = 15.0
_LISTENING = re.compile(r"listening on (https?://[^\s\"]+)")


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """A running fake engine. `url` is what `--worker-url` takes."""

    uds: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"unix:{self.uds}"

    async def energy(self) -> dict[str, Any]:
        connector = aiohttp.UnixConnector(path=str(self.uds))
        async with aiohttp.ClientSession("http://engine", connector=connector) as client, client.get("/energy") as got:
            telemetry: dict[str, Any] = await got.json()
            return telemetry

    async def runs(self, requests: int) -> bool:
        return bool((await self.energy())["running_requests"] == requests)


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """A running `wattline serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text()


@contextlib.asynccontextmanager
async def fake_engine(folder: Path, *arguments: str) -> AsyncIterator[EngineProcess]:
    uds = Path(tempfile.mkdtemp(dir=folder)) / "engine.sock"
    command = [sys.executable, "-m", "workers.fake", "--uds", str(uds), *arguments]
    process = spawn(command, uds.with_suffix(".log"))
    try:
        await eventually(lambda: is_listening(uds))
        yield EngineProcess(uds, process)
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def front_end(
    folder: Path,
    *worker_urls: str,
    wait_ready: bool = True,
    tls: ssl.SSLContext | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[FrontEnd]:
    """`settings` become `WATTLINE_…` variables; `tls` is how the test trusts it, and what it shows of itself.

    `config` is its TOML file, `environ` are variables beside its settings. It must stop when told to, and never have
    printed a traceback.
    """
    own = Path(tempfile.mkdtemp(dir=folder))
    log = own / "front-end.log"
    settings.setdefault("ledger_url", f"sqlite:///{own / 'ledger.db'}")
    command = [sys.executable, "-m", "server", "serve", "--port", "0"]
    for url in worker_urls:
        command += ["--worker-url", url]
    if config is not None:
        command += ["--config", str(config)]
    variables = {f"WATTLINE_{key.upper()}": str(value) for key, value in settings.items()}
    process = spawn(command, log, variables | dict(environ or {}))
    try:
        starting = FrontEnd("", process, log)
        await eventually(lambda: has_begun(starting))
        match = _LISTENING.search(starting.output())
        assert match is not None
        running = FrontEnd(match[1], process, log)
        if wait_ready:
            await eventually(lambda: is_ready(running, len(worker_urls), tls))
        yield running
        process.send_signal(signal.SIGTERM)
        assert await ended(process, END_SECONDS) == 0, running.output()
        assert "Traceback" not in running.output(), running.output()
    finally:
        process.kill()
        process.wait()


def spawn(command: list[str], log: Path, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    environ = clean_environ() | dict(settings or {})
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environ,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL),  # noqa: PLW1509  # a killed test run leaves nothing
        )


def clean_environ() -> dict[str, str]:
    """Our environment, without settings that whoever runs the tests has made for a server of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WATTLINE_")}


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until the condition holds; another process cannot set an event of ours, so it is asked again and again."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.01)


async def ended(process: subprocess.Popen[bytes], seconds: float) -> int:
    """The exit code of a process that ends within so many seconds."""

    async def has_ended() -> bool:
        return process.poll() is not None

    await eventually(has_ended, seconds)
    return process.wait()


async def is_listening(uds: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(uds))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def has_begun(running: FrontEnd) -> bool:
    assert running.process.poll() is None, running.output()
    return "\n" in running.output() and _LISTENING.search(running.output()) is not None


async def is_ready(running: FrontEnd, workers: int, tls: ssl.SSLContext | None = None) -> bool:
    async with aiohttp.ClientSession() as client, client.get(f"{running.url}/ready", ssl=tls or True) as response:
        states = [worker["state"] for worker in json.loads(await response.read())["workers"]]
        return response.status == 200 and states == ["ready"] * workers
