"""The whole proof: load a server while Prometheus scrapes it, then ask everything and compare the books."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import ChildFailedError
from bench.prometheus_proof.answers import Asked, Shown, ask_everything
from bench.prometheus_proof.books import Agreement, accounts, compared, wait_for_rest
from bench.prometheus_proof.callers import Told, call
from bench.prometheus_proof.prometheus import Pace, Prometheus, running
from bench.prometheus_proof.server import ScrapedServer

TOLERANCE: Final = 0.001
# A scrape a second, and a second for each minute that a rule looks back: five scrapes for five minutes.
HURRIED: Final = Pace(1.0, window_divisor=60)
_FIRST_SCRAPES_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.1
# An engine's power at rest counts as learned after twenty seconds of it, and only then is round-robin estimated.
_IDLE_SECONDS: Final = 22.0
_SAVED: Final = "wattline:energy_saved_ratio:rate1h"


@dataclass(frozen=True, slots=True)
class Proof:
    """What was asked, what came back, and whether the books agree."""

    asked: list[Asked]
    agreements: list[Agreement]
    told: Told
    substitutions: tuple[str, ...]
    seconds: float
    scrape_seconds: float | None

    @property
    def faults(self) -> list[str]:
        """Everything that will not do, one line each."""
        wrong = [f"{one.where}, {one.what}: {one.fault}: {one.expression}" for one in self.asked if one.fault]
        wrong += [
            f"{one.what}: {one.worst_ratio:.3%} apart: {one.joules}"
            for one in self.agreements
            if one.worst_ratio > TOLERANCE
        ]
        return wrong


def prove(server: ScrapedServer, folder: Path, seconds: float, pace: Pace, say: Callable[[str], None]) -> Proof:
    """Run the load for so many seconds and look at everything.

    Raises:
        ChildFailedError: Prometheus did not start, or cannot scrape the server.
    """
    with running(folder, server.target, server.keys["ops"], pace) as prometheus:
        _wait_for_scrapes(prometheus, 4 * pace.interval_seconds)
        before = accounts(prometheus)
        since_unix_seconds = time.time()
        say(f"Prometheus scrapes {server.target} every {pace.interval_seconds:g} s; idling for {_IDLE_SECONDS:g} s")
        time.sleep(_IDLE_SECONDS)
        say(f"calling for {seconds:g} s")
        told = asyncio.run(call(server, seconds))
        _wait_for_savings(prometheus, pace)
        at_rest_unix_seconds = wait_for_rest(prometheus, before, pace.interval_seconds)
        say(f"at rest {at_rest_unix_seconds - since_unix_seconds:.1f} s after the first scrapes; asking everything")
        agreements = compared(prometheus, server, told, before, at_rest_unix_seconds)
        asked = ask_everything(prometheus, Shown(since_unix_seconds, at_rest_unix_seconds, pace))
        scrape_seconds = prometheus.number("max(max_over_time(scrape_duration_seconds[10m]))")
        took_seconds = at_rest_unix_seconds - since_unix_seconds
        return Proof(asked, agreements, told, prometheus.substitutions, took_seconds, scrape_seconds)


def _wait_for_scrapes(prometheus: Prometheus, seconds: float) -> None:
    """Until the second: of a counter that begins before the load, Prometheus then knows where it was."""
    deadline_seconds = time.monotonic() + _FIRST_SCRAPES_SECONDS + seconds
    while time.monotonic() < deadline_seconds:
        if (prometheus.number("sum(sum_over_time(up[5m]))") or 0) > 1:
            return
        time.sleep(_POLL_SECONDS)
    errors = [target["lastError"] for target in prometheus.targets()]
    raise ChildFailedError(f"Prometheus cannot scrape the server: {errors}")


def _wait_for_savings(prometheus: Prometheus, pace: Pace) -> None:
    """Until there is an estimate to compare with: the last thing that a new server knows. Not for ever."""
    deadline_seconds = time.monotonic() + _IDLE_SECONDS + 4 * pace.interval_seconds
    while prometheus.number(_SAVED) is None and time.monotonic() < deadline_seconds:
        time.sleep(_POLL_SECONDS)
