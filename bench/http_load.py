"""A light closed-loop load client: N keep-alive connections repeat one prebuilt request, always bounded.

For benchmarks it runs in a process of its own (`run_in_process`, or `python -m bench.http_load`), so that
its work is not done on the event loop of what it measures.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench.load_connection import Answer, LoadConnection

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
RECONNECT_SECONDS = 0.05  # a server that refuses connections is asked 20 times a second, not in a tight loop
PROCESS_START_SECONDS = 30.0  # what a client process may need beyond its load before it is given up


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """One load: ends after `seconds`, or earlier once `requests` have been answered.

    `url` is `http://HOST:PORT` or `unix:PATH`; `request` is the whole HTTP request as sent.
    """

    url: str
    request: bytes
    connections: int
    seconds: float
    requests: int | None = None
    count_output_tokens: bool = False


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one load saw.

    `requests` were answered with success; everything refused, cut short or failing with a status is in
    `errors`. What was still in flight at the end is in neither. `chunks` counts server-sent `data:` events,
    those of answers still in flight included. `output_tokens` is None unless asked for. Latencies are of
    whole answers, None if there were none.
    """

    requests: int
    errors: int
    seconds: float
    requests_per_second: float
    chunks: int
    chunks_per_second: float
    output_tokens: int | None
    latency_p50_seconds: float | None
    latency_p99_seconds: float | None


def chat_request(
    url: str,
    *,
    model: str,
    max_tokens: int,
    stream: bool = False,
    prompt: str = "Say tok.",
    headers: Sequence[str] = (),
) -> bytes:
    """A chat completion request as it goes over the wire; `headers` are complete lines."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": stream,
    }
    return post_request(url, "/v1/chat/completions", json.dumps(body).encode(), headers)


def post_request(url: str, path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
    """A JSON request as it goes over the wire."""
    host = "localhost" if url.startswith("unix:") else urlsplit(url).netloc
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *headers]
    head += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def run(settings: LoadSettings) -> LoadResult:
    """Applies the load from this process, on an event loop of its own."""
    return uvloop.run(drive(settings))


def run_in_process(settings: LoadSettings) -> LoadResult:
    """Applies the load from a new process, which never outlives this call.

    Raises:
        subprocess.SubprocessError: the client process failed or did not end in time.
    """
    command = [sys.executable, "-m", "bench.http_load", "--json", "--raw-request"]
    command += ["--url", settings.url, "--connections", str(settings.connections)]
    command += ["--seconds", str(settings.seconds)]
    if settings.requests is not None:
        command += ["--requests", str(settings.requests)]
    if settings.count_output_tokens:
        command.append("--count-output-tokens")
    done = subprocess.run(
        command,
        input=settings.request,
        stdout=subprocess.PIPE,
        cwd=PROJECT_FOLDER,
        timeout=settings.seconds + PROCESS_START_SECONDS,
        check=True,
    )
    return LoadResult(**json.loads(done.stdout))


async def drive(settings: LoadSettings) -> LoadResult:
    """Applies the load on the running event loop."""
    return await _Load(settings).run()


class _Load:
    """The totals of one load, and its end."""

    def __init__(self, settings: LoadSettings) -> None:
        if settings.connections < 1 or not settings.seconds > 0:
            raise ValueError("a load needs at least one connection and more than 0 seconds")
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._sent = self._errors = self._chunks = self._output_tokens = 0
        self._latencies_seconds = array("d")
        self._connections: set[LoadConnection] = set()
        self._lost = asyncio.Semaphore(settings.connections)

    async def run(self) -> LoadResult:
        started_at_seconds = time.perf_counter()
        timer = self._loop.call_later(self._settings.seconds, self._done.set)
        connecting = asyncio.create_task(self._keep_connected())
        try:
            await self._done.wait()
            seconds = time.perf_counter() - started_at_seconds
            result = self._result(seconds)
        finally:
            timer.cancel()
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
        return result

    def take_turn(self) -> bool:
        if self._done.is_set() or self._sent == self._settings.requests:
            return False
        self._sent += 1
        return True

    def answered(self, answer: Answer) -> None:
        if self._done.is_set():
            return
        if answer.succeeded:
            self._latencies_seconds.append(answer.seconds)
            self._chunks += answer.chunks
            self._output_tokens += answer.output_tokens or 0
        else:
            self._errors += 1
        self._end_if_complete()

    def broken(self, connection: LoadConnection, *, waiting: bool) -> None:
        self._connections.discard(connection)
        if waiting and not self._done.is_set():
            self._errors += 1
            self._end_if_complete()
        self._loop.call_later(RECONNECT_SECONDS if waiting else 0, self._lost.release)

    def _end_if_complete(self) -> None:
        if len(self._latencies_seconds) + self._errors == self._settings.requests:
            self._done.set()

    async def _keep_connected(self) -> None:
        """Opens the connections and replaces lost ones, until cancelled."""
        try:
            while True:
                await self._lost.acquire()
                connection = LoadConnection(
                    self,
                    self._settings.request,
                    count_output_tokens=self._settings.count_output_tokens,
                )
                self._connections.add(connection)
                try:
                    await self._connect(connection)
                except OSError:
                    # Counts as a request sent and failed, so that a load bounded by requests ends too.
                    self.broken(connection, waiting=self.take_turn())
        finally:
            for connection in self._connections:
                connection.close()

    async def _connect(self, connection: LoadConnection) -> None:
        url = self._settings.url
        if url.startswith("unix:"):
            await self._loop.create_unix_connection(lambda: connection, url.removeprefix("unix:"))
            return
        parts = urlsplit(url)
        await self._loop.create_connection(lambda: connection, parts.hostname or "", parts.port or 80)

    def _result(self, seconds: float) -> LoadResult:
        latencies_seconds = sorted(self._latencies_seconds)
        requests = len(latencies_seconds)
        chunks = self._chunks + sum(connection.chunks_in_flight for connection in self._connections)
        return LoadResult(
            requests=requests,
            errors=self._errors,
            seconds=seconds,
            requests_per_second=requests / seconds,
            chunks=chunks,
            chunks_per_second=chunks / seconds,
            output_tokens=self._output_tokens if self._settings.count_output_tokens else None,
            latency_p50_seconds=percentile(latencies_seconds, 0.50),
            latency_p99_seconds=percentile(latencies_seconds, 0.99),
        )


def percentile(ordered: list[float], ratio: float) -> float | None:
    """The nearest-rank percentile of ascending values, None if there are none."""
    if not ordered:
        return None
    return ordered[max(math.ceil(ratio * len(ordered)) - 1, 0)]


def main() -> None:
    """Reads the arguments, applies the load and prints the result."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_load", description=__doc__)
    parser.add_argument("--url", required=True, help="http://HOST:PORT or unix:PATH")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--requests", type=int, help="end earlier, after this many answers")
    parser.add_argument("--model", default="fake")
    parser.add_argument("--max-tokens", type=int, default=1)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--count-output-tokens", action="store_true")
    parser.add_argument("--raw-request", action="store_true", help="read the request from standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.raw_request:
        request = sys.stdin.buffer.read()
    else:
        request = chat_request(
            arguments.url, model=arguments.model, max_tokens=arguments.max_tokens, stream=arguments.stream
        )
    result = asdict(
        run(
            LoadSettings(
                url=arguments.url,
                request=request,
                connections=arguments.connections,
                seconds=arguments.seconds,
                requests=arguments.requests,
                count_output_tokens=arguments.count_output_tokens,
            )
        )
    )
    print(json.dumps(result) if arguments.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
