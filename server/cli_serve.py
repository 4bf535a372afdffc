"""`wattline serve`: the options, and the way from them to a running server."""

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uvloop

from scheduler.policy import POLICIES
from server.command_line import FAILURE, fail
from server.console import Console, open_terminal
from server.engines import detect_device
from server.errors import SettingError
from server.logs import configure_logging
from server.model_store import default_cache_dir, resolve_model
from server.preparation import prepare
from server.running import ReadAgain, explain_start_failure, listen, run
from server.served_models import find_models
from server.settings import DEFAULT_POLICY, Settings, load_settings, unknown_variables
from workers.errors import EngineStartError

METERS: Final = "auto, nvml, rapl, nvml+rapl, zeus, estimate or replay:FILE"
_POLICIES: Final = ", ".join(POLICIES)

Option = typer.Option
Text = str | None


def serve(  # noqa: PLR0913, PLR0917  # Typer reads the options from the signature
    context: typer.Context,
    model: Annotated[Text, typer.Argument(help="Hugging Face id, a path, or smollm2 (the default).")] = None,
    host: Annotated[Text, Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[Text, Option(help="Port to listen on [8000].")] = None,
    workers: Annotated[Text, Option(help="How many engines to start [1].")] = None,
    device: Annotated[Text, Option(help="auto, cuda or cpu [auto].")] = None,
    worker_url: Annotated[list[str] | None, Option(help="Attach to a running server; repeatable.")] = None,
    policy: Annotated[Text, Option(help=f"{_POLICIES} [{DEFAULT_POLICY}].")] = None,
    slo_ttft_seconds: Annotated[Text, Option(help="Target for the p99 time to first token [1, on a CPU 5].")] = None,
    slo_tpot_seconds: Annotated[
        Text, Option(help="Target for the p99 time per output token [0.05, on a CPU 0.5].")
    ] = None,
    power_cap_watts: Annotated[Text, Option(help="What all workers together may draw [no limit].")] = None,
    min_workers: Annotated[Text, Option(help="How many workers always stay up [1].")] = None,
    meter: Annotated[Text, Option(help=f"{METERS} [auto].")] = None,
    ledger_url: Annotated[
        Text, Option(help="sqlite:///PATH, postgresql://… or none [a file in ~/.local/state/wattline].")
    ] = None,
    insecure: Annotated[bool | None, Option("--insecure", help="Listen beyond this machine without any key.")] = None,
    log_level: Annotated[Text, Option(help="debug, info, warning or error [info].")] = None,
    log_format: Annotated[Text, Option(help="text or json [text].")] = None,
    ssl_certfile: Annotated[Text, Option(help="Serve HTTPS with this certificate chain, PEM.")] = None,
    ssl_keyfile: Annotated[Text, Option(help="Its private key, if in a file of its own.")] = None,
    ssl_ca_certs: Annotated[Text, Option(help="Ask callers for certificates of these authorities.")] = None,
    ssl_client_auth: Annotated[Text, Option(help="none, optional or required.")] = None,
    drain_seconds: Annotated[Text, Option(help="What requests in flight get at the end [8].")] = None,
    config: Annotated[Path | None, Option(help="A TOML file with any of the settings.")] = None,
) -> None:
    """Start the server. Arguments after -- go to vLLM. Every setting can also be given as WATTLINE_NAME."""
    overrides = _overrides(dict(locals()))
    settings = load_settings(overrides, config)
    starts_engines = ("model", "workers", "engine_args")
    if settings.worker_urls and any(overrides[name] is not None for name in starts_engines):
        raise SettingError("worker_url: MODEL, --workers and vLLM arguments are for engines started here, not attached")
    _serve(settings, lambda: load_settings(overrides, config))


def _overrides(given: dict[str, Any]) -> dict[str, Any]:
    """The options by the names of the settings; None for what was not given."""
    context, _, worker_urls = given.pop("context"), given.pop("config"), given.pop("worker_url")
    return given | {"worker_urls": tuple(worker_urls or ()) or None, "engine_args": tuple(context.obj or ()) or None}


def _serve(settings: Settings, read_again: ReadAgain) -> None:
    """Check what can be checked at once, find the models, serve until told to stop."""
    configure_logging(settings.log_level, settings.log_format, access_log=settings.access_log)
    console = Console(settings.log_format, open_terminal())
    for name in unknown_variables(os.environ):
        console.warn(f"the variable {name} sets nothing; see wattline serve --help")
    prepared = prepare(settings, listen)
    cache_dir = default_cache_dir(os.environ)
    models = find_models(settings, lambda name: resolve_model(name, cache_dir, console.say), detect_device)
    try:
        with closing(prepared.tracing), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, models, prepared, console, read_again))
    except EngineStartError as error:
        fail(explain_start_failure(error), FAILURE)
