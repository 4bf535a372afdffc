"""What the front end costs: the same load on a fake engine directly and through the front end.

The engine answers instantly, so whatever is lost is the front end's. Memory is measured on a fresh front
end, where a leak per request shows as growth between two request counts.
"""

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from bench.children import child, ended_by_sigterm, free_port, peak_rss_bytes
from bench.comparison import Comparison, Sample, compare, comparison_table
from bench.http_load import LoadResult, LoadSettings, chat_request, run_in_process

MODEL = "fake"
ENGINE_START_SECONDS = 20.0
MEMORY_LOAD_SECONDS = 120.0  # the limit of one memory load, which normally ends by its requests
BYTES_PER_MEBIBYTE = 1024 * 1024


def default_front_end_command() -> list[str]:
    """The front end's command line; `{worker_url}` and `{port}` are filled in when it is started."""
    return [sys.executable, "-m", "server", "serve", "--worker-url", "{worker_url}", "--port", "{port}"]


@dataclass(frozen=True, slots=True)
class OverheadSettings:
    """One overhead benchmark. `memory_requests` are the two request counts at which memory is read."""

    front_end_command: list[str] = field(default_factory=default_front_end_command)
    engine_socket: Literal["tcp", "unix"] = "tcp"
    rounds: int = 3
    seconds: float = 3.0
    connections: int = 16
    stream_max_tokens: int = 256
    memory_requests: tuple[int, int] = (2_000, 20_000)
    front_end_start_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class MemoryGrowth:
    """The front end's peak memory after two numbers of requests."""

    first_requests: int
    first_peak_rss_bytes: int
    last_requests: int
    last_peak_rss_bytes: int
    errors: int

    @property
    def ratio(self) -> float:
        return self.last_peak_rss_bytes / self.first_peak_rss_bytes


@dataclass(frozen=True, slots=True)
class OverheadResult:
    """Rates are requests per second of tiny chats, and streamed events per second.

    `stream_chunks` come from an engine that writes each token on its own, as vLLM does; `coalesced_chunks` from one
    that fills the socket with as many as it takes, which measures the copying of bytes rather than of tokens.
    """

    chat_requests: Comparison
    stream_chunks: Comparison
    coalesced_chunks: Comparison
    memory: MemoryGrowth

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        memory = self.memory
        return {
            "chat_requests_per_second": self.chat_requests.as_json(),
            "stream_chunks_per_second": self.stream_chunks.as_json(),
            "coalesced_chunks_per_second": self.coalesced_chunks.as_json(),
            "memory": {
                "first_requests": memory.first_requests,
                "first_peak_rss_bytes": memory.first_peak_rss_bytes,
                "last_requests": memory.last_requests,
                "last_peak_rss_bytes": memory.last_peak_rss_bytes,
                "ratio": memory.ratio,
                "errors": memory.errors,
            },
        }


def run(settings: OverheadSettings) -> OverheadResult:
    """Measures throughput, then memory. Its child processes end before it returns or raises.

    Raises:
        ChildFailedError: the engine or the front end did not start.
    """
    with _engine(settings, tokens_per_write=1) as engine_url:
        with _front_end(settings, engine_url) as (front_end_url, _):
            chat = _compare("tiny chat requests/s", _chat_sample, settings, engine_url, front_end_url)
            stream = _compare("streamed chunks/s", _stream_sample, settings, engine_url, front_end_url)
        with _front_end(settings, engine_url) as (front_end_url, pid):
            memory = _memory_growth(settings, front_end_url, pid)
    with (
        _engine(settings, tokens_per_write=0) as engine_url,
        _front_end(settings, engine_url) as (front_end_url, _),
    ):
        coalesced = _compare("coalesced chunks/s", _stream_sample, settings, engine_url, front_end_url)
    return OverheadResult(chat, stream, coalesced, memory)


def _compare(
    name: str,
    sample: Callable[[OverheadSettings, str], Sample],
    settings: OverheadSettings,
    engine_url: str,
    front_end_url: str,
) -> Comparison:
    return compare(
        name, partial(sample, settings, engine_url), partial(sample, settings, front_end_url), settings.rounds
    )


def overhead_table(result: OverheadResult) -> str:
    """The result as a table for people."""
    memory = result.memory
    first, last = (bytes_ / BYTES_PER_MEBIBYTE for bytes_ in (memory.first_peak_rss_bytes, memory.last_peak_rss_bytes))
    return (
        f"{comparison_table([result.chat_requests, result.stream_chunks, result.coalesced_chunks])}\n"
        f"peak memory of the front end: {first:.1f} MiB after {memory.first_requests:,} requests, "
        f"{last:.1f} MiB after {memory.last_requests:,}, ratio {memory.ratio:.3f}, errors {memory.errors}"
    )


@contextlib.contextmanager
def _engine(settings: OverheadSettings, *, tokens_per_write: int) -> Iterator[str]:
    """Runs the fake engine and yields its URL."""
    command = [sys.executable, "-m", "workers.fake", "--model", MODEL, "--die-with-parent"]
    command += ["--tokens-per-write", str(tokens_per_write)]
    with tempfile.TemporaryDirectory(prefix="wattline-") as folder:
        if settings.engine_socket == "unix":
            url = f"unix:{folder}/engine.sock"
            command += ["--uds", f"{folder}/engine.sock"]
        else:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            command += ["--port", str(port)]
        with child(command, url, "/health", ENGINE_START_SECONDS):
            yield url


@contextlib.contextmanager
def _front_end(settings: OverheadSettings, engine_url: str) -> Iterator[tuple[str, int]]:
    """Runs a fresh front end and yields its URL and process id."""
    port = free_port()
    command = [
        part.replace("{worker_url}", engine_url).replace("{port}", str(port)) for part in settings.front_end_command
    ]
    url = f"http://127.0.0.1:{port}"
    with child(command, url, "/ready", settings.front_end_start_seconds) as pid:
        yield url, pid


def _chat_sample(settings: OverheadSettings, url: str) -> Sample:
    result = _load(settings, url, chat_request(url, model=MODEL, max_tokens=1))
    return Sample(result.requests_per_second, result.errors)


def _stream_sample(settings: OverheadSettings, url: str) -> Sample:
    request = chat_request(url, model=MODEL, max_tokens=settings.stream_max_tokens, stream=True)
    result = _load(settings, url, request)
    return Sample(result.chunks_per_second, result.errors)


def _load(settings: OverheadSettings, url: str, request: bytes) -> LoadResult:
    return run_in_process(LoadSettings(url, request, settings.connections, settings.seconds))


def _memory_growth(settings: OverheadSettings, url: str, pid: int) -> MemoryGrowth:
    first, last = settings.memory_requests
    request = chat_request(url, model=MODEL, max_tokens=1)
    peaks: list[int] = []
    errors = 0
    for requests in (first, last - first):
        result = run_in_process(LoadSettings(url, request, settings.connections, MEMORY_LOAD_SECONDS, requests))
        errors += result.errors
        peaks.append(peak_rss_bytes(pid))
    return MemoryGrowth(first, peaks[0], last, peaks[1], errors)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments, runs the benchmark and prints the result."""
    defaults = OverheadSettings()
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument(
        "--front-end-command",
        type=shlex.split,
        default=defaults.front_end_command,
        help="with {worker_url} and {port} where they belong",
    )
    parser.add_argument("--engine-socket", choices=("tcp", "unix"), default=defaults.engine_socket)
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--connections", type=int, default=defaults.connections)
    parser.add_argument("--stream-max-tokens", type=int, default=defaults.stream_max_tokens)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = vars(parser.parse_args(arguments))
    as_json = given.pop("json")
    with ended_by_sigterm():
        result = run(OverheadSettings(**given))
    print(json.dumps(result.as_json(), indent=2) if as_json else overhead_table(result))


if __name__ == "__main__":
    main()
