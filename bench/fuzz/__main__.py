"""`python -m bench.fuzz raw|openapi`: starts a fake engine and a front end, is hostile to it, prints what was found."""

import argparse
import asyncio
import importlib.util
import json
import sys
import time
from typing import Any, Final
from urllib.parse import urlsplit

from bench.children import ended_by_sigterm
from bench.fuzz.raw import Target, fuzz_raw, leftovers
from bench.overhead.contenders import engine, wattline
from bench.overhead.settings import OverheadSettings

_USAGE_ERROR: Final = 2
_FAILURE: Final = 1
_CONTEXT_TOKENS: Final = 512  # so that no answer is long, whatever a caller asks for


def main() -> None:
    """Runs one kind of fuzz. Exit code 1 where it found something."""
    given = _parser().parse_args()
    if given.kind == "openapi" and importlib.util.find_spec("schemathesis") is None:
        sys.stderr.write("wattline: error: the OpenAPI fuzz needs schemathesis: install Wattline's extra `dev`\n")
        sys.exit(_USAGE_ERROR)
    started_at_seconds = time.monotonic()
    settings = OverheadSettings(engine_socket="unix")
    with (
        ended_by_sigterm(),
        engine(settings, max_model_len=_CONTEXT_TOKENS) as behind,
        wattline(settings, behind.url) as ours,
    ):
        target = Target(urlsplit(ours.url).port or 0, behind.url, ours.headers)
        found, problems = (_openapi if given.kind == "openapi" else _raw)(target, given)
    found["seconds"] = round(time.monotonic() - started_at_seconds, 1)
    print(json.dumps(found, indent=2))
    for problem in problems:
        print(f"FAULT {problem}")
    if problems:
        sys.exit(_FAILURE)


def _raw(target: Target, given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    fuzz = asyncio.run(fuzz_raw(target, given.seed, given.requests, given.at_once))
    return fuzz.as_json(), fuzz.problems()


def _openapi(target: Target, given: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    from bench.fuzz.openapi import description_of, fuzz_openapi  # noqa: PLC0415  # needs a development tool

    headers = target.header_fields
    fuzz = fuzz_openapi(target.url, description_of(target.url, headers), given.requests, given.seed, headers)
    return fuzz.as_json(), fuzz.faults + asyncio.run(leftovers(target))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("kind", choices=("raw", "openapi"))
    parser.add_argument("--requests", type=int, default=1_000, help="attacks or requests [1000]")
    parser.add_argument("--seed", type=int, default=1, help="the same one brings the same requests [1]")
    parser.add_argument("--at-once", type=int, default=8, help="attacks at any time [8]")
    return parser


if __name__ == "__main__":
    main()
