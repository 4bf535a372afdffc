"""Output tokens per second of a real, running server: directly at its engine and through the front end.

Starts nothing. Both are asked in alternating rounds for the same bounded number of answers.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from bench.children import ended_by_sigterm
from bench.comparison import Comparison, Sample, compare, comparison_table
from bench.http_load import LoadSettings, post_request, run_in_process

PROMPT = "Write a long story about a river that remembers everything it has carried to the sea."


@dataclass(frozen=True, slots=True)
class ThroughputSettings:
    """One throughput benchmark; URLs are `http://HOST:PORT` or `unix:PATH`.

    Each measurement ends after `requests_per_connection` answers on each of its connections, or after
    `limit_seconds`.
    """

    front_end_url: str
    engine_url: str
    model: str
    concurrencies: tuple[int, ...] = (1, 8, 32)
    rounds: int = 3
    requests_per_connection: int = 2
    max_tokens: int = 64
    limit_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class ThroughputResult:
    """One comparison of output tokens per second for each concurrency."""

    settings: ThroughputSettings
    comparisons: tuple[Comparison, ...]

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        pairs = zip(self.settings.concurrencies, self.comparisons, strict=True)
        return {
            "settings": asdict(self.settings),
            "output_tokens_per_second": [
                {"concurrency": concurrency, **comparison.as_json()} for concurrency, comparison in pairs
            ],
        }


def run(settings: ThroughputSettings) -> ThroughputResult:
    """Measures every concurrency in turn, after one unmeasured answer from each side."""
    for url in (settings.engine_url, settings.front_end_url):
        _sample(settings, url, 1)
    return ThroughputResult(settings, tuple(_comparison(settings, count) for count in settings.concurrencies))


def _comparison(settings: ThroughputSettings, concurrency: int) -> Comparison:
    return compare(
        f"output tokens/s at concurrency {concurrency}",
        partial(_sample, settings, settings.engine_url, concurrency),
        partial(_sample, settings, settings.front_end_url, concurrency),
        settings.rounds,
    )


def _sample(settings: ThroughputSettings, url: str, concurrency: int) -> Sample:
    result = run_in_process(
        LoadSettings(
            url=url,
            request=_request(settings, url),
            connections=concurrency,
            seconds=settings.limit_seconds,
            requests=concurrency * settings.requests_per_connection,
            count_output_tokens=True,
        )
    )
    return Sample((result.output_tokens or 0) / result.seconds, result.errors)


def _request(settings: ThroughputSettings, url: str) -> bytes:
    body = {
        "model": settings.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": settings.max_tokens,
        "temperature": 0,
        # vLLM's: every answer has max_tokens tokens, so that all rounds do the same work.
        "ignore_eos": True,
    }
    return post_request(url, "/v1/chat/completions", json.dumps(body).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments, runs the benchmark and prints the result."""
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--front-end-url", required=True)
    parser.add_argument("--engine-url", required=True, help="http://HOST:PORT or unix:PATH")
    parser.add_argument("--model", required=True)
    parser.add_argument("--concurrencies", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests-per-connection", type=int, default=2)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--limit-seconds", type=float, default=120.0, help="of one measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = vars(parser.parse_args(arguments))
    as_json = given.pop("json")
    given["concurrencies"] = tuple(given["concurrencies"])
    with ended_by_sigterm():
        result = run(ThroughputSettings(**given))
    print(json.dumps(result.as_json(), indent=2) if as_json else comparison_table(result.comparisons))


if __name__ == "__main__":
    main()
