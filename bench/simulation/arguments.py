"""The command line of `wattline simulate`."""

import argparse
import sys
from pathlib import Path
from typing import Final, NoReturn

from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets

_DESCRIPTION: Final = """\
How many GPUs, how many joules, at which latency targets? The server's own scheduler in virtual time over simulated
engines, fed with the arrivals of a trace. Energy runs from the first arrival to the end of the last request; parked
GPUs count with what they draw bare. TTFT, TPOT and attainment at the top level are of all requests but flex, whose
figures stand apart; a request that is refused has missed its targets."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the rest of the command line does."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"wattline: error: {message}\n")
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """A parser whose `error` prints one line and exits with 2."""
    parser = _Parser(prog="wattline simulate", description=_DESCRIPTION, allow_abbrev=False)
    parser.set_defaults(default_policy="energy" if "energy" in POLICIES else next(iter(POLICIES)))
    _add_fleet(parser.add_argument_group("fleet"))
    _add_workload(parser.add_argument_group("requests"))
    _add_scheduling(parser.add_argument_group("scheduling"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_fleet(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--gpus", type=int, default=8, help="GPUs in all; an engine may need several [8]")
    group.add_argument("--gpu", default="h100", metavar="HARDWARE", help="which GPU [h100]")
    group.add_argument("--model", help="which model [llama-3.1-8b]; with --parameters its name only")
    group.add_argument("--parameters", type=float, metavar="N", help="any other model: how many parameters, 8e9 say")
    group.add_argument("--weight-bytes", type=float, metavar="BYTES", help="what its weights take, 16e9 say")
    group.add_argument("--kv-bytes-per-token", type=float, metavar="BYTES", help="of KV cache, 131072 say")
    group.add_argument("--active-parameters", type=float, metavar="N", help="for a token, in a mixture of experts")
    group.add_argument("--gpus-per-engine", type=int, metavar="N", help="as few as hold the weights unless given")
    group.add_argument("--max-batched-tokens", type=int, metavar="N", help="tokens in one pass of an engine")
    group.add_argument("--max-sequences", type=int, metavar="N", help="sequences in one pass of an engine")
    group.add_argument(
        "--size-fleet",
        choices=POLICIES,
        metavar="POLICY",
        help="instead of --gpus: the smallest fleet that keeps to both targets under this policy at the peak",
    )
    group.add_argument("--size-headroom", type=float, default=1.0, metavar="RATIO", help="of the peak, 1.25 say [1]")


def _add_workload(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--trace", type=Path, required=True, metavar="FILE", help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens"
    )
    group.add_argument("--rate-scale", type=float, default=1.0, metavar="S", help="divides gaps between arrivals [1]")
    duration = group.add_mutually_exclusive_group()
    duration.add_argument("--duration-seconds", type=float, metavar="S", help="repeat or cut the trace to this")
    duration.add_argument("--hours", type=float, metavar="H", help="the same in hours")
    group.add_argument(
        "--diurnal-peak-to-trough",
        type=float,
        default=1.0,
        metavar="RATIO",
        help="thin arrivals along a sinusoid that begins in the trough; the scaled trace is the peak [1: do not]",
    )
    group.add_argument(
        "--diurnal-period-seconds", type=float, metavar="S", help="of the sinusoid [a day, at most the duration]"
    )
    group.add_argument("--flex-share", type=float, default=0.0, metavar="RATIO", help="of requests that can wait [0]")
    group.add_argument("--limit-requests", type=int, metavar="N", help="the first ones only")
    group.add_argument("--seed", type=int, default=1, help="of what is thinned and what is flex [1]")


def _add_scheduling(group: argparse._ArgumentGroup) -> None:
    targets, limits = LatencyTargets(), SchedulerLimits()
    names = ", ".join(POLICIES)
    group.add_argument("--policy", action="append", choices=POLICIES, help=f"{names}; repeatable: side by side")
    group.add_argument("--compare", action="append", choices=POLICIES, help="another policy, repeatable")
    group.add_argument("--slo-ttft-seconds", type=float, default=targets.ttft_seconds, metavar="S", help="p99 [1]")
    group.add_argument("--slo-tpot-seconds", type=float, default=targets.tpot_seconds, metavar="S", help="p99 [0.05]")
    group.add_argument(
        "--flex-wait-seconds", type=float, default=limits.flex_wait_seconds, metavar="S", help="at most [300]"
    )
    group.add_argument("--min-workers", type=int, default=limits.min_workers, help="never parked [1]")
    group.add_argument("--power-cap-watts", type=float, metavar="W", help="of all GPUs together [none]")
    group.add_argument(
        "--queue-timeout-seconds", type=float, default=limits.queue_timeout_seconds, metavar="S", help="[600]"
    )
    group.add_argument(
        "--max-queued-requests", type=int, default=limits.max_queued_requests, metavar="N", help="[1024]"
    )
    group.add_argument("--report-seconds", type=float, default=1.0, metavar="S", help="between engines' reports [1]")


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print one JSON object")
    group.add_argument("--plot", type=Path, metavar="FILE", help="power, attainment, awake workers: png, svg or pdf")
