"""The held-stream load: many streams opened one after the other, held, and listened to until each has ended.

Runs in a process of its own (`held_in_process`), so that its work is not done on the event loop of what it measures.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from array import array
from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import urlsplit

import uvloop

from bench.children import PROJECT_FOLDER
from bench.http_load import percentile
from bench.overhead.settings import HeldStreamSettings
from bench.overhead.stream_connection import StreamConnection
from workers.open_files import raise_open_files_limit

_GRACE_SECONDS: Final = 30.0  # beyond their own length, for streams that come late, before they are given up
_PROCESS_SECONDS: Final = 30.0
_FINAL_EVENTS: Final = 2  # the one with the finish reason, and [DONE]


@dataclass(frozen=True, slots=True)
class HeldStreams:
    """What the client saw. Gaps are those between two events of a stream, of all streams while all of them ran.

    Streams that were refused, broke off, held an error or ended short are in `errors`.
    """

    streams: int
    most_at_once: int
    errors: int
    chunks: int
    measured_seconds: float
    gap_p50_seconds: float | None
    gap_p99_seconds: float | None
    gap_longest_seconds: float | None


def held_in_process(url: str, request: bytes, settings: HeldStreamSettings) -> HeldStreams:
    """Holds the streams from a new process, which never outlives this call.

    Raises:
        subprocess.SubprocessError: the client process failed or did not end in time.
    """
    command = [sys.executable, "-m", "bench.overhead.held_streams", "--url", url, "--streams", str(settings.streams)]
    command += ["--seconds", str(settings.seconds), "--ramp-seconds", str(settings.ramp_seconds)]
    command += ["--tokens-per-second", str(settings.tokens_per_second)]
    limit_seconds = settings.ramp_seconds * 2 + settings.seconds + _GRACE_SECONDS + _PROCESS_SECONDS
    done = subprocess.run(
        command, input=request, stdout=subprocess.PIPE, cwd=PROJECT_FOLDER, timeout=limit_seconds, check=True
    )
    return HeldStreams(**json.loads(done.stdout))


class StreamHolder:
    """Opens streams, and counts how they begin and end. Use it on a running event loop."""

    def __init__(self, url: str, request: bytes, settings: HeldStreamSettings) -> None:
        self._url = url
        self._request = request
        self._settings = settings
        self._streams: list[StreamConnection] = []
        self._all_begun = asyncio.Event()
        self._all_ended = asyncio.Event()
        self._begun = self._ended = self._never_begun = self._whole = self.most_at_once = 0
        self.gaps_seconds: array[float] | None = None

    async def run(self) -> HeldStreams:
        """Holds all of them to their ends."""
        settings = self._settings
        try:
            await self.open()
            gaps = self.gaps_seconds = array("d")
            started_at_seconds = time.perf_counter()
            await _within(self._all_ended, settings.seconds)
            self.gaps_seconds = None
            measured_seconds = time.perf_counter() - started_at_seconds
            await _within(self._all_ended, settings.ramp_seconds + _GRACE_SECONDS)
        finally:
            self.close()
        ordered = sorted(gaps)
        return HeldStreams(
            streams=settings.streams,
            most_at_once=self.most_at_once,
            errors=settings.streams - self._whole,
            chunks=sum(stream.events for stream in self._streams),
            measured_seconds=measured_seconds,
            gap_p50_seconds=percentile(ordered, 0.50),
            gap_p99_seconds=percentile(ordered, 0.99),
            gap_longest_seconds=ordered[-1] if ordered else None,
        )

    async def open(self) -> None:
        """Opens all of them and waits, within bounds, until each has had its first event or has failed."""
        loop = asyncio.get_running_loop()
        pause_seconds = self._settings.ramp_seconds / max(self._settings.streams, 1)
        started_at_seconds = loop.time()
        for index in range(self._settings.streams):
            stream = StreamConnection(self, self._request, self._settings.max_tokens + _FINAL_EVENTS)
            self._streams.append(stream)
            try:
                await self._connect(loop, stream)
            except OSError:
                stream.connection_lost(None)
            await asyncio.sleep(max(started_at_seconds + (index + 1) * pause_seconds - loop.time(), 0))
        await _within(self._all_begun, _GRACE_SECONDS)

    def close(self) -> None:
        """Leaves all that still run."""
        for stream in self._streams:
            stream.close()

    def begun(self) -> None:
        self._begun += 1
        self.most_at_once = max(self.most_at_once, self._begun - (self._ended - self._never_begun))
        self._look()

    def ended(self, *, had_begun: bool, whole: bool) -> None:
        self._ended += 1
        self._never_begun += not had_begun
        self._whole += whole
        self._look()

    def _look(self) -> None:
        if self._begun + self._never_begun >= self._settings.streams:
            self._all_begun.set()
        if self._ended >= self._settings.streams:
            self._all_ended.set()

    async def _connect(self, loop: asyncio.AbstractEventLoop, stream: StreamConnection) -> None:
        if self._url.startswith("unix:"):
            await loop.create_unix_connection(lambda: stream, self._url.removeprefix("unix:"))
            return
        parts = urlsplit(self._url)
        await loop.create_connection(lambda: stream, parts.hostname or "", parts.port or 80)


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), max(seconds, 0))
    except TimeoutError:
        return


def main() -> None:
    """Reads the arguments and a request from standard input, holds the streams and prints one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead.held_streams", description=__doc__)
    defaults = HeldStreamSettings()
    parser.add_argument("--url", required=True, help="http://HOST:PORT or unix:PATH")
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--ramp-seconds", type=float, default=defaults.ramp_seconds)
    parser.add_argument("--tokens-per-second", type=float, default=defaults.tokens_per_second)
    given = vars(parser.parse_args())
    url = given.pop("url")
    request = sys.stdin.buffer.read()
    raise_open_files_limit()

    async def hold() -> HeldStreams:
        return await StreamHolder(url, request, HeldStreamSettings(**given)).run()

    print(json.dumps(asdict(uvloop.run(hold()))))


if __name__ == "__main__":
    main()
