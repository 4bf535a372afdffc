"""`wattline bench overhead`: reads the arguments, runs the benchmark and prints the result."""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from bench.children import ChildFailedError, ended_by_sigterm
from bench.overhead.peers import PEERS
from bench.overhead.report import overhead_table
from bench.overhead.settings import HeldStreamSettings, OverheadSettings
from bench.overhead.study import run

_USAGE_ERROR: Final = 2
_FAILURE: Final = 1
_LEAST: Final = {"rounds": 1, "connections": 1, "stream_max_tokens": 1, "streams": 0}
_ABOVE_0: Final = ("seconds", "stream_seconds", "stream_ramp_seconds", "stream_tokens_per_second")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of the command line does."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"wattline: error: {message}\n")
        sys.exit(_USAGE_ERROR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark. Exit code 2 for wrong arguments, 1 where something does not start."""
    settings, as_json = _read(arguments)
    try:
        with ended_by_sigterm():
            result = run(settings, _say)
    except ChildFailedError as error:
        sys.stderr.write(f"wattline: error: {error}\n")
        sys.exit(_FAILURE)
    print(json.dumps(result.as_json(), indent=2) if as_json else overhead_table(result))


def _read(arguments: Sequence[str] | None) -> tuple[OverheadSettings, bool]:
    parser = _parser()
    given = parser.parse_args(arguments)
    peers = tuple(dict.fromkeys(name for name in given.peers.split(",") if name))
    for name in peers:
        if name not in PEERS:
            parser.error(f"--peers: {name!r} is none of {', '.join(PEERS)}")
    for option, least in _LEAST.items():
        if (count := getattr(given, option)) < least:
            parser.error(f"{_flag(option)} is {count}, expected at least {least}")
    for option in _ABOVE_0:
        if not 0 < (value := getattr(given, option)) < math.inf:  # written so that NaN fails too
            parser.error(f"{_flag(option)} is {value}, expected a finite number above 0")
    if peers and given.engine_socket == "unix":
        parser.error("--engine-socket is unix, which the peers do not speak: expected tcp with --peers")
    settings = OverheadSettings(
        front_end_command=given.front_end_command,
        front_end_args=tuple(given.wattline_args),
        engine_socket=given.engine_socket,
        peers=peers,
        bare=given.bare,
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
        stream_max_tokens=given.stream_max_tokens,
        held=HeldStreamSettings(
            given.streams, given.stream_seconds, given.stream_tokens_per_second, given.stream_ramp_seconds
        ),
    )
    return settings, given.json


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _parser() -> argparse.ArgumentParser:
    defaults, held = OverheadSettings(), HeldStreamSettings()
    parser = _Parser(
        prog="wattline bench overhead",
        description="Requests and chunks a second through the front end, beside the same fake engine asked directly.",
        allow_abbrev=False,
    )
    parser.add_argument("--peers", default="", metavar="A,B", help=f"also measure, of {', '.join(PEERS)} [none]")
    parser.add_argument(
        "--front-end-command",
        type=shlex.split,
        default=defaults.front_end_command,
        help="with {worker_url}, {port} and {config} where they belong",
    )
    parser.add_argument(
        "--wattline-args", type=shlex.split, default=[], metavar="ARGS", help="further arguments of the front end"
    )
    parser.add_argument("--bare", action="store_true", help="without keys, limits and ledger")
    parser.add_argument("--engine-socket", choices=("tcp", "unix"), default=defaults.engine_socket)
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help=f"[{defaults.rounds}]")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of one measurement [3]")
    parser.add_argument("--connections", type=int, default=defaults.connections, help=f"[{defaults.connections}]")
    parser.add_argument("--stream-max-tokens", type=int, default=defaults.stream_max_tokens, help="[256]")
    parser.add_argument("--streams", type=int, default=held.streams, help="held at once; 0 skips this part [0]")
    parser.add_argument("--stream-seconds", type=float, default=held.seconds, help="they are held for [120]")
    parser.add_argument(
        "--stream-tokens-per-second", type=float, default=held.tokens_per_second, help="of each of them [10]"
    )
    parser.add_argument("--stream-ramp-seconds", type=float, default=held.ramp_seconds, help="to open them [10]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"wattline: {text}\n")
    sys.stderr.flush()
