"""`wattline bench scrape`: how long a scrape of many workers takes, and what it does to those who ask meanwhile."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.children import ChildFailedError, child, ended_by_sigterm, free_port
from bench.scrape.stand_in import MODEL, socket_path

_READY_SECONDS: Final = 60.0
_END_SECONDS: Final = 20.0
_PROBE_PAUSE_SECONDS: Final = 0.005
_REQUESTS_AT_ONCE: Final = 32
_REQUESTS_PER_WORKER: Final = 20


@dataclass(frozen=True, slots=True)
class ScrapeFigures:
    """Scrapes as their client sees them, and `GET /health` asked every 5 ms without and with them.

    `scrape_cpu_milliseconds` is the server's own CPU time for one scrape: on a busy machine the more reliable figure.
    """

    workers: int
    series: int
    page_bytes: int
    scrape_p50_milliseconds: float
    scrape_p99_milliseconds: float
    scrape_cpu_milliseconds: float
    quiet_p50_milliseconds: float
    quiet_p99_milliseconds: float
    scraped_p50_milliseconds: float
    scraped_p99_milliseconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark. Exit code 1 where something does not start, or a limit that was given is exceeded."""
    parser = argparse.ArgumentParser(prog="wattline bench scrape", description=__doc__)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--scrapes", type=int, default=50)
    parser.add_argument("--pause-seconds", type=float, default=0.2, help="between two scrapes")
    parser.add_argument("--limit-milliseconds", type=float, help="fail if the median scrape takes longer")
    parser.add_argument("--json", action="store_true", dest="as_json")
    given = parser.parse_args(arguments)
    try:
        with ended_by_sigterm():
            figures = run(given.workers, given.scrapes, given.pause_seconds)
    except ChildFailedError as error:
        sys.stderr.write(f"wattline: error: {error}\n")
        sys.exit(1)
    print(json.dumps(asdict(figures), indent=2) if given.as_json else table(figures))
    if given.limit_milliseconds is not None and figures.scrape_p50_milliseconds > given.limit_milliseconds:
        sys.exit(1)


def table(figures: ScrapeFigures) -> str:
    """For people."""
    rows = (
        ("scrape", figures.scrape_p50_milliseconds, figures.scrape_p99_milliseconds),
        ("GET /health, nobody scrapes", figures.quiet_p50_milliseconds, figures.quiet_p99_milliseconds),
        ("GET /health, while scraped", figures.scraped_p50_milliseconds, figures.scraped_p99_milliseconds),
    )
    size = f"{figures.workers} workers, {figures.series} series, {figures.page_bytes / 1024:.0f} KiB"
    head = f"{size}, {figures.scrape_cpu_milliseconds:.1f} ms of CPU time a scrape"
    return "\n".join((head, *(f"{what:28} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms" for what, p50, p99 in rows)))


def run(workers: int, scrapes: int, pause_seconds: float) -> ScrapeFigures:
    """Starts the stand-ins and a server over them, and measures.

    Raises:
        ChildFailedError: one of them did not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        stand_in = [sys.executable, "-m", "bench.scrape.stand_in", name, str(workers)]
        server = [sys.executable, "-m", "server", "serve", "--port", str(port), "--log-level", "error"]
        server += ["--policy", "round-robin", "--ledger-url", "none"]
        for number in range(workers):
            server += ["--worker-url", f"unix:{socket_path(folder, number)}"]
        last, url = f"unix:{socket_path(folder, workers - 1)}", f"http://127.0.0.1:{port}"
        with (
            child(stand_in, last, "/v1/models", _READY_SECONDS),
            child(server, url, "/ready", _READY_SECONDS, _END_SECONDS) as pid,
        ):
            return asyncio.run(_measure(url, pid, workers, scrapes, pause_seconds))


async def _measure(url: str, pid: int, workers: int, scrapes: int, pause_seconds: float) -> ScrapeFigures:
    async with aiohttp.ClientSession(url) as client:
        await _serve_some(client, workers * _REQUESTS_PER_WORKER)
        page = await _get(client, "/metrics")
        at_first = _cpu_seconds(pid), time.perf_counter()
        quiet = await _probed(client, asyncio.sleep(scrapes * pause_seconds))
        between = _cpu_seconds(pid), time.perf_counter()
        scrape_seconds: list[float] = []
        scraped = await _probed(client, _scrape(client, scrapes, pause_seconds, scrape_seconds))
        at_last = _cpu_seconds(pid), time.perf_counter()
    # What the server does anyway, such as asking the workers once a second, is known from the quiet time.
    quiet_ratio = (between[0] - at_first[0]) / (between[1] - at_first[1])
    cpu_seconds = at_last[0] - between[0] - quiet_ratio * (at_last[1] - between[1])
    return ScrapeFigures(
        workers,
        sum(not line.startswith(b"#") for line in page.splitlines()),
        len(page),
        *_percentiles(scrape_seconds),
        1e3 * cpu_seconds / scrapes,
        *_percentiles(quiet),
        *_percentiles(scraped),
    )


async def _serve_some(client: aiohttp.ClientSession, requests: int) -> None:
    """So that the families that requests move have their series, for every worker."""
    places = asyncio.Semaphore(_REQUESTS_AT_ONCE)

    async def one() -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
        async with places, client.post("/v1/chat/completions", json=body) as response:
            await response.read()

    await asyncio.gather(*(one() for _ in range(requests)))


async def _scrape(client: aiohttp.ClientSession, scrapes: int, pause_seconds: float, seconds: list[float]) -> None:
    for _ in range(scrapes):
        began_at_seconds = time.perf_counter()
        await _get(client, "/metrics")
        seconds.append(time.perf_counter() - began_at_seconds)
        await asyncio.sleep(pause_seconds)


async def _probed(client: aiohttp.ClientSession, meanwhile: Coroutine[Any, Any, None]) -> list[float]:
    """Latencies of `GET /health` as long as something else goes on."""
    seconds: list[float] = []
    task = asyncio.create_task(meanwhile)
    while not task.done():
        began_at_seconds = time.perf_counter()
        await _get(client, "/health")
        seconds.append(time.perf_counter() - began_at_seconds)
        await asyncio.sleep(_PROBE_PAUSE_SECONDS)
    await task
    return seconds


async def _get(client: aiohttp.ClientSession, path: str) -> bytes:
    async with client.get(path) as response:
        return await response.read()


def _cpu_seconds(pid: int) -> float:
    """CPU time of the process so far (proc_pid_stat(5): fields 14 and 15, in clock ticks)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return 1e3 * cuts[49], 1e3 * cuts[98]
