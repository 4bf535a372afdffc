"""`wattline report` and `wattline ledger`: what is in the ledger, for people and for programs."""

import asyncio
import json
import math
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer
from sqlalchemy import Engine

from server.errors import SettingError
from server.ledger.address import default_ledger_url, ledger_address
from server.ledger.database import open_database
from server.ledger.ledger import DatabaseLedger, open_ledger
from server.ledger.reader import LedgerReader
from server.ledger.retention import BATCH_ROWS, SECONDS_PER_DAY
from server.ledger.settings import LedgerSettings
from server.ledger.speed import WRITERS, measure_speed
from server.ledger.store import DatabaseStore
from server.ledger.summary import COLUMN_DIMENSIONS, DIMENSIONS, SummaryQuery
from server.report.export import EXPORT_FORMATS
from server.report.page import html_report
from server.report.period import PERIODS, parse_instant, report_bounds
from server.report.text import csv_report, json_report, table_report

_FAILURE: Final = 1
_REPORT_FORMATS: Final = ("table", "csv", "json", "html")

Ledger = Annotated[
    str | None, typer.Option("--ledger", help="URL of the ledger [WATTLINE_LEDGER_URL, or the default file].")
]
Config = Annotated[Path | None, typer.Option(help="The server's TOML file, to find the ledger by.")]
Since = Annotated[str | None, typer.Option(help="A date, a time (UTC) or Unix seconds; included.")]
Until = Annotated[str | None, typer.Option(help="A date, a time (UTC) or Unix seconds; not included.")]
Output = Annotated[Path | None, typer.Option(help="Write to this file instead of standard output.")]

ledger_app = typer.Typer(no_args_is_help=True, help="The record of every request.")


def add_report_commands(app: typer.Typer) -> None:
    """Mount both on the command line."""
    app.command("report")(report)
    app.add_typer(ledger_app, name="ledger")


def report(  # noqa: PLR0913, PLR0917  # Typer reads the options from the signature
    by: Annotated[str, typer.Option(help=f"Some of {', '.join(DIMENSIONS)}; comma-separated.")] = "tenant,model",
    since: Since = None,
    until: Until = None,
    period: Annotated[str | None, typer.Option(help=f"In place of both: {', '.join(PERIODS)}.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help=f"NAME=VALUE, of {', '.join(COLUMN_DIMENSIONS)}; repeatable.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help=f"{', '.join(_REPORT_FORMATS)}.")] = "table",
    ledger: Ledger = None,
    config: Config = None,
    output: Output = None,
) -> None:
    """Energy, tokens and carbon of requests by tenant, model, tier and time."""
    _require("format", format_, _REPORT_FORMATS)
    now = time.time()
    dimensions = tuple(part.strip() for part in by.split(",")) if by.strip() else ()
    query = SummaryQuery(dimensions, *report_bounds(since, until, period, now), _filters(where or []))
    with _database(ledger, config) as engine:
        reader = LedgerReader(engine)
        summary = reader.summary(query)
        if format_ == "html":
            text = html_report(summary, reader.summary, now)
        else:
            text = {"table": table_report, "csv": csv_report, "json": json_report}[format_](summary)
    with _opened(output) as out:
        out.write(text)


@ledger_app.command("export")
def export(
    since: Since = None,
    until: Until = None,
    format_: Annotated[str, typer.Option("--format", help=f"{', '.join(EXPORT_FORMATS)}.")] = "csv",
    ledger: Ledger = None,
    config: Config = None,
    output: Output = None,
) -> None:
    """Every row, in the order the requests ended."""
    _require("format", format_, tuple(EXPORT_FORMATS))
    bounds = report_bounds(since, until, None, time.time())
    with _database(ledger, config) as engine, _opened(output) as out:
        EXPORT_FORMATS[format_](LedgerReader(engine).rows(*bounds), out)


@ledger_app.command("check")
def check(
    ledger: Ledger = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Inspect the database and its rows; exit code 1 when something is wrong."""
    with _database(ledger, config) as engine:
        found = LedgerReader(engine).check()
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.database}: schema {found.schema}, {found.rows:,} rows")
        typer.echo("\n".join(found.problems) or "no problems found")
    if found.problems:
        raise typer.Exit(_FAILURE)


@ledger_app.command("prune")
def prune(
    before: Annotated[str | None, typer.Option(help="Delete requests that ended before this date or time.")] = None,
    days: Annotated[float | None, typer.Option(help="Delete requests that ended more than so many days ago.")] = None,
    ledger: Ledger = None,
    config: Config = None,
) -> None:
    """Delete old rows now, whether or not the server does by itself."""
    if (before is None) == (days is None):
        raise SettingError("prune: expected either --before or --days")
    if days is not None and not (math.isfinite(days) and days > 0):
        raise SettingError(f"days = {days}: expected a number above 0")
    limit = parse_instant("before", before) if before is not None else time.time() - (days or 0) * SECONDS_PER_DAY
    deleted = 0
    with _database(ledger, config) as engine, closing(DatabaseStore(engine)) as store:
        while batch := store.prune(limit, BATCH_ROWS):
            deleted += batch
    typer.echo(f"{deleted:,} rows deleted")


@ledger_app.command("speed")
def speed(
    ledger: Annotated[str | None, typer.Option("--ledger", help="URL of an empty database to write to.")] = None,
    synchronous: Annotated[str, typer.Option(help="normal or full, as ledger_synchronous.")] = "normal",
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="How long to write, for each number of writers.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a durable row costs here, until it is committed. Writes invented rows, and deletes them."""
    if ledger is None:
        raise SettingError(
            "ledger: expected the URL of an empty database, on the disk or server that is to be measured"
        )
    _require("synchronous", synchronous, ("normal", "full"))
    settings = LedgerSettings.model_validate({"ledger_url": ledger, "ledger_synchronous": synchronous})
    results = [asdict(result) for result in asyncio.run(_measure(settings, seconds))]
    if as_json:
        typer.echo(json.dumps(results))
        return
    typer.echo(f"{'writers':>8} {'rows/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for result in results:
        milliseconds = " ".join(f"{result[name] * 1000:8.2f}" for name in ("p50_seconds", "p99_seconds", "max_seconds"))
        typer.echo(f"{result['writers']:8} {result['rows_per_second']:10,.0f} {milliseconds}")


async def _measure(settings: LedgerSettings, seconds: float) -> list[Any]:
    ledger = open_ledger(settings)
    try:
        if not isinstance(ledger, DatabaseLedger) or ledger.reader is None:
            raise SettingError("ledger = 'none': expected a database")
        if ledger.reader.summary(SummaryQuery()).total.requests:
            raise SettingError("ledger: expected an empty database, and this one has rows")
        results = [await measure_speed(ledger, writers, seconds) for writers in WRITERS]
    finally:
        await ledger.close()
    with _database(settings.ledger_url, None) as engine, closing(DatabaseStore(engine)) as store:
        while store.prune(time.time() + SECONDS_PER_DAY, BATCH_ROWS):
            pass
    return results


def _filters(where: list[str]) -> dict[str, str]:
    filters: dict[str, str] = {}
    for condition in where:
        name, separator, value = condition.partition("=")
        if not separator or name not in COLUMN_DIMENSIONS:
            raise SettingError(f"where = {condition!r}: expected NAME=VALUE, of {', '.join(COLUMN_DIMENSIONS)}")
        filters[name] = value
    return filters


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name} = {value!r}: expected one of {', '.join(allowed)}")


@contextmanager
def _database(option: str | None, config: Path | None) -> Iterator[Engine]:
    """The ledger, to be read: nothing is made where there is none."""
    address = ledger_address(option or os.environ.get("WATTLINE_LEDGER_URL") or _configured_url(config))
    if address is None:
        raise SettingError("ledger_url = 'none': there is no ledger to read")
    engine = open_database(address, upgrade=False)
    try:
        yield engine
    finally:
        engine.dispose()


def _configured_url(config: Path | None) -> str:
    url = None
    if config is not None:
        try:
            url = tomllib.loads(config.read_text(encoding="utf-8")).get("ledger_url")
        except (OSError, ValueError) as error:
            raise SettingError(f"config = {str(config)!r}: {error}") from error
        if url is not None and not isinstance(url, str):
            raise SettingError(f"ledger_url = {url!r}: expected a URL")
    return url or default_ledger_url(os.environ)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with output.open("w", encoding="utf-8", newline="") as file:
        yield file
