"""Does a scrape slow the front end down? Tiny chats with and without a Prometheus that scrapes, round by round.

The engine is a fake one that answers at once and is fifty workers to the front end, so that the page of metrics is as
long as a large fleet's and all the time is the front end's. Prometheus runs the shipped configuration and rules in both
halves of a round; in the one it is stopped by a signal, so that it neither scrapes nor computes.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.children import child, ended_by_sigterm
from bench.http_load import LoadResult, LoadSettings, chat_request, run_in_process
from bench.overhead.settings import MODEL
from bench.prometheus_proof.prometheus import Pace, Prometheus, is_installed, running
from bench.prometheus_proof.server import ScrapedServer, scraped_server

_START_SECONDS: Final = 30.0
_WARM_SECONDS: Final = 3.0
_SETTLE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ScrapeSettings:
    """`workers` is how many the front end knows; Prometheus scrapes every `interval_seconds` while it may."""

    workers: int = 50
    rounds: int = 5
    seconds: float = 5.0
    connections: int = 4
    interval_seconds: float = 1.0


@dataclass(slots=True)
class ScrapeResult:
    """Loads side by side; times of the scrapes of each half in seconds, samples on the page."""

    settings: ScrapeSettings
    without: list[LoadResult] = field(default_factory=list)
    scraped: list[LoadResult] = field(default_factory=list)
    scrapes: int = 0
    scrape_median_seconds: list[float] = field(default_factory=list)
    scrape_most_seconds: list[float] = field(default_factory=list)
    samples: int = 0

    def ratios(self, figure: str) -> list[float]:
        """A figure with scraping over the same without, round by round."""
        pairs = zip(self.scraped, self.without, strict=True)
        return [getattr(scraped, figure) / getattr(without, figure) for scraped, without in pairs]

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return asdict(self)


def measure(settings: ScrapeSettings) -> ScrapeResult:
    """Start everything, load it in alternating halves, and read what Prometheus says of its scrapes.

    Raises:
        ChildFailedError: a server or Prometheus did not start.
    """
    result = ScrapeResult(settings)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wattline-scrape-")))
        urls = stack.enter_context(_fleet(folder, settings.workers))
        arguments = [part for url in urls for part in ("--worker-url", url)]
        server = stack.enter_context(scraped_server(folder, arguments))
        prometheus = stack.enter_context(
            running(folder, server.target, server.keys["ops"], Pace(settings.interval_seconds))
        )
        _load(server, settings, _WARM_SECONDS)
        for number in range(settings.rounds):
            for is_scraped in (number % 2 == 0, number % 2 != 0):
                half = result.scraped if is_scraped else result.without
                half.append(_half(server, prometheus, result, is_scraped=is_scraped))
    return result


@contextlib.contextmanager
def _fleet(folder: Path, workers: int) -> Iterator[list[str]]:
    """One fake engine under as many names; yields the URLs."""
    socket_path = folder / "engine.sock"
    command = [sys.executable, "-m", "workers.fake", "--model", MODEL, "--uds", str(socket_path), "--die-with-parent"]
    with child(command, f"unix:{socket_path}", "/health", _START_SECONDS):
        names = [folder / f"engine-{number}.sock" for number in range(workers)]
        for name in names:
            name.symlink_to(socket_path)
        yield [f"unix:{name}" for name in names]


def _half(server: ScrapedServer, prometheus: Prometheus, result: ScrapeResult, *, is_scraped: bool) -> LoadResult:
    settings = result.settings
    os.kill(prometheus.pid, signal.SIGCONT if is_scraped else signal.SIGSTOP)
    try:
        time.sleep(_SETTLE_SECONDS)  # a scrape that is under way when Prometheus is stopped ends by itself
        loaded = _load(server, settings, settings.seconds)
        if is_scraped:
            _read_scrapes(prometheus, result, settings.seconds)
        return loaded
    finally:
        os.kill(prometheus.pid, signal.SIGCONT)


def _load(server: ScrapedServer, settings: ScrapeSettings, seconds: float) -> LoadResult:
    headers = (f"Authorization: Bearer {server.keys['ops']}",)
    request = chat_request(server.url, model=MODEL, max_tokens=1, headers=headers)
    return run_in_process(LoadSettings(server.url, request, settings.connections, seconds))


def _read_scrapes(prometheus: Prometheus, result: ScrapeResult, seconds: float) -> None:
    """Those of a half that ends now: what is stopped in the middle of a scrape thinks that it took a whole half."""
    window = f"scrape_duration_seconds[{seconds:g}s]"
    result.scrapes += round(prometheus.number(f"sum(count_over_time({window}))") or 0)
    if (typical := prometheus.number(f"max(quantile_over_time(0.5, {window}))")) is not None:
        result.scrape_median_seconds.append(typical)
    if (most := prometheus.number(f"max(max_over_time({window}))")) is not None:
        result.scrape_most_seconds.append(most)
    result.samples = round(prometheus.number("sum(scrape_samples_scraped)") or 0)


def _lines(result: ScrapeResult) -> Iterator[str]:
    settings = result.settings
    yield (
        f"{settings.workers} workers, {result.samples} samples a page, a scrape every {settings.interval_seconds:g} s, "
        f"{settings.connections} connections, {settings.rounds} rounds of {settings.seconds:g} s each way"
    )
    for what, figure, scale, unit in (
        ("requests a second", "requests_per_second", 1, ""),
        ("latency p50", "latency_p50_seconds", 1000, " ms"),
        ("latency p99", "latency_p99_seconds", 1000, " ms"),
    ):
        without, scraped = (
            median(getattr(load, figure) for load in half) * scale for half in (result.without, result.scraped)
        )
        ratios = ", ".join(f"{ratio:.3f}" for ratio in result.ratios(figure))
        yield (
            f"{what:<18} without {without:9.3f}{unit}, scraped {scraped:9.3f}{unit}, "
            f"ratio {median(result.ratios(figure)):.3f} (by round {ratios})"
        )
    errors = sum(load.errors for load in (*result.without, *result.scraped))
    yield f"errors: {errors}"
    if result.scrape_median_seconds:
        yield (
            f"{result.scrapes} scrapes under load: median {1000 * median(result.scrape_median_seconds):.1f} ms, "
            f"slowest {1000 * max(result.scrape_most_seconds):.1f} ms"
        )


def main() -> None:
    """Command line."""
    defaults = ScrapeSettings()
    parser = argparse.ArgumentParser(prog="python -m bench.scrape_load", description=__doc__)
    parser.add_argument("--workers", type=int, default=defaults.workers)
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--interval", type=float, default=defaults.interval_seconds, dest="interval_seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = vars(parser.parse_args())
    is_json = options.pop("json")
    if not is_installed():
        sys.exit("Prometheus is not installed (Debian's package is called prometheus)")
    with ended_by_sigterm():
        result = measure(ScrapeSettings(**options))
    print(json.dumps(result.as_json()) if is_json else "\n".join(_lines(result)))


if __name__ == "__main__":
    main()
