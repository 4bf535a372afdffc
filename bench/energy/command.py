"""`wattline bench energy`: reads the arguments, runs the benchmark and prints the result."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from bench.children import ChildFailedError, ended_by_sigterm
from bench.energy.report import format_study
from bench.energy.server_under_test import ServerSettings
from bench.energy.study import StudySettings, run
from metering.choice import check_meter_setting
from metering.errors import MeterSettingError
from scheduler.policy import POLICIES

_USAGE_ERROR: Final = 2
_FAILURE: Final = 1
_QUICK_ROUNDS: Final = 1
_QUICK_REQUESTS: Final = 24
_LEAST: Final = {"rounds": 1, "requests": 1, "max_tokens": 1, "repeats": 0}
_ABOVE_0: Final = ("rate", "most_other_cores", "slo_ttft_seconds", "slo_tpot_seconds", "request_seconds")
_MOST_WORKERS: Final = 64  # far beyond the cores of one machine that this is meant for; a slip of the finger


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of the command line does."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"wattline: error: {message}\n")
        sys.exit(_USAGE_ERROR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark. Exit code 2 for wrong arguments, 1 where a server does not start or does not answer.

    Exit code 1 too where requests failed, after the figures have been printed.
    """
    settings, as_json = _read(arguments)
    try:
        with ended_by_sigterm():
            result = run(settings, _say)
    except ChildFailedError as error:
        sys.stderr.write(f"wattline: error: {error}\n")
        sys.exit(_FAILURE)
    print(json.dumps(result.as_json(), indent=2) if as_json else format_study(result))
    if any(one.failed_requests for one in result.runs):
        sys.exit(_FAILURE)


def _read(arguments: Sequence[str] | None) -> tuple[StudySettings, bool]:
    parser = _parser()
    given = parser.parse_args(arguments)
    _check(parser, given)
    server = ServerSettings(
        model=given.model,
        workers=given.workers,
        min_workers=given.min_workers,
        meter=given.meter,
        slo_ttft_seconds=given.slo_ttft_seconds,
        slo_tpot_seconds=given.slo_tpot_seconds,
    )
    settings = StudySettings(
        server=server,
        policies=_policies(given),
        rounds=_QUICK_ROUNDS if given.quick else given.rounds,
        requests=_QUICK_REQUESTS if given.quick else given.requests,
        requests_per_second=given.rate,
        most_output_tokens=given.max_tokens,
        seed=given.seed,
        request_seconds=given.request_seconds,
        most_other_cores=given.most_other_cores,
        repeats=0 if given.quick else given.repeats,
        quiet_wait_seconds=0 if given.quick else StudySettings().quiet_wait_seconds,
    )
    return settings, given.json


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Ends the program with one line where an argument makes no sense."""
    for policy in _policies(given):
        if policy not in POLICIES:
            parser.error(f"--policies: {policy!r} is none of {', '.join(POLICIES)}")
    for option, least in _LEAST.items():
        if (count := getattr(given, option)) < least:
            parser.error(f"{_flag(option)} is {count}, expected at least {least}")
    for option in _ABOVE_0:
        if not 0 < (value := getattr(given, option)) < math.inf:  # written so that NaN fails too
            parser.error(f"{_flag(option)} is {value}, expected a finite number above 0")
    if not 1 <= given.workers <= _MOST_WORKERS:
        parser.error(f"--workers is {given.workers}, expected 1 to {_MOST_WORKERS}")
    if not 0 <= given.min_workers <= given.workers:
        parser.error(f"--min-workers is {given.min_workers}, expected 0 to the number of workers, {given.workers}")
    try:
        check_meter_setting(given.meter)
    except MeterSettingError as error:
        parser.error(f"--meter: {error}")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _policies(given: argparse.Namespace) -> tuple[str, ...]:
    return tuple(dict.fromkeys(given.policies.split(",")))


def _parser() -> argparse.ArgumentParser:
    server, study = ServerSettings(), StudySettings()
    parser = _Parser(
        prog="wattline bench energy",
        description="CPU-seconds and joules per output token of real engines on the CPU, under each policy in turn.",
        allow_abbrev=False,
    )
    parser.add_argument("--model", default=server.model, help=f"id or path [{server.model}]")
    parser.add_argument("--workers", type=int, default=server.workers, help=f"engines [{server.workers}]")
    parser.add_argument("--min-workers", type=int, default=server.min_workers, help="that are never parked [1]")
    parser.add_argument(
        "--policies", default=",".join(study.policies), metavar="A,B", help="the first is what the others are held to"
    )
    parser.add_argument("--rounds", type=int, default=study.rounds, help=f"runs of each policy [{study.rounds}]")
    parser.add_argument("--requests", type=int, default=study.requests, help=f"in each run [{study.requests}]")
    parser.add_argument("--rate", type=float, default=study.requests_per_second, help="requests a second [1.6]")
    parser.add_argument("--max-tokens", type=int, default=study.most_output_tokens, help="of the longest answers [64]")
    parser.add_argument("--seed", type=int, default=study.seed, help="of arrivals, prompts and lengths [1]")
    parser.add_argument("--slo-ttft-seconds", type=float, default=server.slo_ttft_seconds, help="target [5]")
    parser.add_argument("--slo-tpot-seconds", type=float, default=server.slo_tpot_seconds, help="target [0.5]")
    parser.add_argument("--request-seconds", type=float, default=study.request_seconds, help="until given up [120]")
    parser.add_argument(
        "--most-other-cores",
        type=float,
        default=study.most_other_cores,
        metavar="N",
        help=f"that all else may keep busy, or the run is disturbed [{study.most_other_cores}]",
    )
    parser.add_argument(
        "--repeats", type=int, default=study.repeats, help=f"of a run that was disturbed, at most [{study.repeats}]"
    )
    parser.add_argument("--meter", default=server.meter, help="as of wattline serve [auto]")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_ROUNDS} round of {_QUICK_REQUESTS} requests: a look, no proof"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"wattline: {text}\n")
    sys.stderr.flush()
