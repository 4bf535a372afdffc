"""What the meter costs: bookkeeping in virtual time, and on the real engine tokens per second and delay of answers.

Two stock vLLM servers are started, one with the meter and one without, and loaded in alternating rounds.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.bookkeeping import BookkeepingResult, MemoryResult, measure_memory, measure_steps
from bench.children import LOG_TAIL_CHARACTERS, PROJECT_FOLDER, ChildFailedError, ended_by_sigterm
from bench.comparison import Comparison, Sample, compare, comparison_table
from bench.http_load import LoadSettings, percentile, post_request, run_in_process
from workers.cpu_dtype import dtype_arguments

READY_SECONDS: Final = 180.0
END_SECONDS: Final = 20.0
DELAY_SAMPLES: Final = 4  # of each kind of answer; each sample is all connections' answers
PROMPT: Final = "Write a long story about a river that remembers everything it has carried to the sea."
METER: Final = ("--middleware", "metering.vllm_plugin.EnergyMiddleware", "--enable-logging-iteration-details")
PROBES: Final = (
    *("--middleware", "bench.delay_probe.Inner", *METER),
    *("--middleware", "bench.delay_probe.Outer"),
)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Load of the real engines; each measurement is `connections` × `requests_per_connection` answers."""

    model: Path
    rounds: int = 7
    connections: int = 16
    requests_per_connection: int = 4
    max_tokens: int = 64
    limit_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class DelayResult:
    """How long the meter held back what the application sent, of each answer the longest of its messages."""

    kind: str
    answers: int
    median_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class MeterCostResult:
    """All that was measured; the engine's part is None where it was not asked for."""

    bookkeeping: tuple[BookkeepingResult, ...]
    memory: MemoryResult
    throughput: Comparison | None
    delays: tuple[DelayResult, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return {
            "bookkeeping": [result.as_json() for result in self.bookkeeping],
            "memory": self.memory.as_json(),
            "output_tokens_per_second": None if self.throughput is None else self.throughput.as_json(),
            "added_delay": [asdict(delay) for delay in self.delays],
        }


def run(engines: EngineSettings | None) -> MeterCostResult:
    """Measure the bookkeeping, and the engines where settings for them are given."""
    bookkeeping = tuple(measure_steps(256, counters) for counters in (1, 4))
    memory = measure_memory()
    if engines is None:
        return MeterCostResult(bookkeeping, memory, None)
    return MeterCostResult(bookkeeping, memory, measure_throughput(engines), measure_delays(engines))


def measure_throughput(settings: EngineSettings) -> Comparison:
    """Output tokens per second of a stock server and of one with the meter, both up, loaded in turn."""
    with tempfile.TemporaryDirectory(prefix="wattline-bench-") as folder:
        plain, metered = Path(folder) / "plain.sock", Path(folder) / "metered.sock"
        with _engine(settings, plain, (), {"VLLM_PLUGINS": ""}), _engine(settings, metered, METER, {}):
            if _status(plain, "/energy") == http.HTTPStatus.OK or _status(metered, "/energy") != http.HTTPStatus.OK:
                raise ChildFailedError("the engines are not what they should be: one without the meter, one with it")
            for path in (plain, metered):
                _sample(settings, path)
            return compare(
                "output tokens/s, without (direct) and with the meter (through)",
                partial(_sample, settings, plain),
                partial(_sample, settings, metered),
                settings.rounds,
            )


def measure_delays(settings: EngineSettings) -> tuple[DelayResult, ...]:
    """How long a metered server holds back whole and streamed answers."""
    results: list[DelayResult] = []
    with tempfile.TemporaryDirectory(prefix="wattline-bench-") as folder:
        path = Path(folder) / "probed.sock"
        with _engine(settings, path, PROBES, {}):
            _sample(settings, path)
            seen = len(json.loads(_get(path, "/delays")))
            for kind in ("whole", "streamed"):
                for _ in range(DELAY_SAMPLES):
                    _sample(settings, path, stream=kind == "streamed")
                delays = json.loads(_get(path, "/delays"))
                fresh, seen = sorted(delays[seen:]), len(delays)
                median, p99 = percentile(fresh, 0.5), percentile(fresh, 0.99)
                results.append(DelayResult(kind, len(fresh), median or 0.0, p99 or 0.0))
    return tuple(results)


def _sample(settings: EngineSettings, path: Path, *, stream: bool = False) -> Sample:
    url = f"unix:{path}"
    body = {
        "model": "bench",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": settings.max_tokens,
        "temperature": 0,
        "ignore_eos": True,  # vLLM's: all rounds do the same work
        "stream": stream,
    }
    request = post_request(url, "/v1/chat/completions", json.dumps(body).encode())
    result = run_in_process(
        LoadSettings(
            url=url,
            request=request,
            connections=settings.connections,
            seconds=settings.limit_seconds,
            requests=settings.connections * settings.requests_per_connection,
            count_output_tokens=not stream,
        )
    )
    return Sample((result.output_tokens or 0) / result.seconds, result.errors)


@contextlib.contextmanager
def _engine(settings: EngineSettings, path: Path, arguments: Sequence[str], environ: dict[str, str]) -> Iterator[None]:
    """A vLLM server for the time of the block; it and all it started are ended with it.

    Raises:
        ChildFailedError: it ended, or did not listen in time.
    """
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(settings.model)]
    command += ["--served-model-name", "bench", "--uds", str(path), "--enforce-eager", "--max-model-len", "1024"]
    command += dtype_arguments()
    command += arguments
    defaults = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**defaults, **os.environ, **environ},
            cwd=PROJECT_FOLDER,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if not _listens(process, path):
                log.seek(0)
                tail = log.read().decode(errors="replace")[-LOG_TAIL_CHARACTERS:]
                raise ChildFailedError(f"vLLM did not start:\n{tail}")
            yield
        finally:
            _end(process)


def _listens(process: subprocess.Popen[bytes], path: Path) -> bool:
    deadline_seconds = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline_seconds:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return True
        time.sleep(0.25)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with contextlib.suppress(ProcessLookupError):  # its session, for its engine may outlive it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _get(path: Path, target: str) -> bytes:
    return _ask(path, target)[1]


def _status(path: Path, target: str) -> int:
    return _ask(path, target)[0]


def _ask(path: Path, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    with contextlib.closing(connection):
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read()


def format_result(result: MeterCostResult) -> str:
    """The figures as lines for people."""
    lines = [
        f"one step's bookkeeping at {one.running_sequences} running sequences, {one.counters} counter(s): "
        f"median {one.median_seconds * 1e6:.1f} us, p99 {one.p99_seconds * 1e6:.1f} us; "
        f"a request's end and the next one's start: median {one.request_median_seconds * 1e6:.1f} us"
        for one in result.bookkeeping
    ]
    memory = result.memory
    lines.append(
        f"memory over {memory.simulated_seconds:,.0f} simulated seconds of 100 steps a second: "
        f"{memory.grown_bytes / 1e6:+.3f} MB after {memory.warm_up_seconds:,.0f} s of warm-up, "
        f"peak {memory.peak_bytes / 1e6:.2f} MB"
    )
    if result.throughput is not None:
        rounds = zip(result.throughput.direct, result.throughput.through, strict=True)
        ratios = ", ".join(f"{through / direct:.3f}" for direct, through in rounds)
        lines += [comparison_table([result.throughput]), f"ratios of the rounds: {ratios}"]
    lines += [
        f"added delay of {delay.answers} {delay.kind} answers: median {delay.median_seconds * 1e3:.3f} ms, "
        f"p99 {delay.p99_seconds * 1e3:.3f} ms"
        for delay in result.delays
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments, runs the benchmark and prints the result."""
    parser = argparse.ArgumentParser(prog="wattline bench meter", description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint's folder; without it no engine is started")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--requests-per-connection", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = vars(parser.parse_args(arguments))
    as_json = given.pop("json")
    if given["model"] is not None and not given["model"].is_dir():
        parser.error(f"--model {given['model']}: there is no such folder; `wattline model fetch` prints one")
    with ended_by_sigterm():
        result = run(EngineSettings(**given) if given["model"] is not None else None)
    print(json.dumps(result.as_json(), indent=2) if as_json else format_result(result))


if __name__ == "__main__":
    main()
