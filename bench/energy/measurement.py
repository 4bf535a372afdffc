"""One measured run over a server that is ready: warm-up, idle baseline, then the load with the meters read around it.

The window of the figures runs from the first measured request to the end of the last answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from bench.children import ChildFailedError
from bench.energy.arrivals import PlannedRequest, plan
from bench.energy.cpu_time import CpuSeconds, CpuWatch
from bench.energy.open_load import Answer, Target, drive
from bench.energy.scrape import Scrape
from bench.energy.server_under_test import ServerUnderTest

# vLLM's processes wait for work in a busy loop for a second after the last before they sleep.
SETTLE_SECONDS: Final = 2.0
BASELINE_SECONDS: Final = 3.0
_SAMPLE_SECONDS: Final = 0.5
_SCRAPE_SECONDS: Final = 10.0
_WARM_UP_REQUESTS: Final = 4
_WARM_UP_RATE: Final = 4.0
_WARM_UP_TOKENS: Final = 24
_WARM_UP_SEED: Final = 0  # its prompts are its own; vLLM remembers prompts


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was seen in one run: the answers, and the differences and samples of the window.

    `idle_cores` is how many cores the engines kept busy between them while nobody asked anything.
    """

    answers: tuple[Answer, ...]
    window_seconds: float
    cpu_seconds: CpuSeconds
    idle_cores: float
    first: Scrape
    last: Scrape
    samples: tuple[Scrape, ...]


async def warm_up(server: ServerUnderTest, request_seconds: float) -> None:
    """Some requests to each engine's own socket, so that no policy chooses which engine gets to be warm.

    Raises:
        ChildFailedError: an engine does not answer.
    """
    planned = plan(_WARM_UP_REQUESTS, _WARM_UP_RATE, _WARM_UP_TOKENS, _WARM_UP_SEED)
    for socket_path in server.engine_sockets():
        answers = await drive(Target("http://engine", server.model, socket_path), planned, request_seconds)
        for answer in answers:
            if answer.error is not None:
                raise ChildFailedError(f"an engine failed at the warm-up: {answer.error}")


async def measure(
    server: ServerUnderTest,
    planned: Sequence[PlannedRequest],
    request_seconds: float,
    settle_seconds: float = SETTLE_SECONDS,
    baseline_seconds: float = BASELINE_SECONDS,
) -> Measurement:
    """Measures the planned requests sent to the front end, of a server to which nobody else sends any.

    Before, it leaves the engines alone for `settle_seconds`, then sees for `baseline_seconds` how idle they are.

    Raises:
        ChildFailedError: the server does not answer.
    """
    cpu = CpuWatch(server.pid)
    await asyncio.sleep(settle_seconds)
    idle_cores = await _idle_cores(cpu, baseline_seconds)
    async with aiohttp.ClientSession(server.url) as session:
        first, cpu_before = await _scrape(session), cpu.read()
        started_at_seconds = time.perf_counter()
        async with _sampling(session, cpu) as samples:
            answers = await drive(Target(server.url, server.model), planned, request_seconds)
            window_seconds = time.perf_counter() - started_at_seconds
            cpu_seconds = cpu.read() - cpu_before
        last = await _scrape(session)
    return Measurement(answers, window_seconds, cpu_seconds, idle_cores, first, last, tuple(samples))


async def _idle_cores(cpu: CpuWatch, seconds: float) -> float:
    before, started_at_seconds = cpu.read(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (cpu.read() - before).engines / (time.perf_counter() - started_at_seconds)


@contextlib.asynccontextmanager
async def _sampling(session: aiohttp.ClientSession, cpu: CpuWatch) -> AsyncIterator[list[Scrape]]:
    """Looks at the server twice a second for the time of the block; also keeps count of engines that are stopped."""
    samples: list[Scrape] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            cpu.read()
            samples.append(await _scrape(session))

    looking = asyncio.create_task(look(), name="look at the server")
    try:
        yield samples
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def _scrape(session: aiohttp.ClientSession) -> Scrape:
    try:
        async with asyncio.timeout(_SCRAPE_SECONDS), session.get("/metrics") as response:
            response.raise_for_status()
            return Scrape.of_page(await response.text())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ChildFailedError(f"the server does not answer GET /metrics: {type(error).__name__}: {error}") from error
