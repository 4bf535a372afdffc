"""`wattline top`. Reached without the rest of the command line, which takes a second to import."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console

from server.command_line import run_command_line
from server.errors import SettingError
from server.top.connection import ServerConnection, checked_url
from server.top.errors import SilentServerError
from server.top.frame import page
from server.top.live_body import read_live_body
from server.top.state import TopState

DEFAULT_URL: Final = "http://127.0.0.1:8000"
KEY_VARIABLE: Final = "WATTLINE_API_KEY"
_PAGE_WIDTH: Final = 120


def top(
    url: Annotated[str, typer.Argument(help="The server's address.")] = DEFAULT_URL,
    key_env: Annotated[
        str, typer.Option(help="The variable that holds an administrating tenant's key.")
    ] = KEY_VARIABLE,
    interval: Annotated[float, typer.Option(help="Seconds between two looks, 0.1 to 3600.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print everything once, as where there is no terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the server tells, as JSON.")] = False,
) -> None:
    """Watch a running server: power, joules per token, workers, requests, tenants."""
    if not 0.1 <= interval <= 3600:
        raise SettingError(f"interval = {interval}: expected seconds, 0.1 to 3600")
    connection = ServerConnection(checked_url(url), os.environ.get(key_env) or None, key_env)
    if as_json:
        typer.echo(json.dumps(asyncio.run(_fetch(connection))))  # in ASCII: whatever a terminal may obey is escaped
    elif once or not _is_screen(os.environ):
        _print_page(connection)
    else:
        _watch(connection, interval)


def main() -> NoReturn:
    """Run this command alone."""
    app = typer.Typer(name="wattline", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_only_with_a_name)
    app.command("top")(top)
    run_command_line(app, sys.argv[1:])


def _only_with_a_name() -> None:
    """With a callback Typer does not take the only command for the program itself."""


def _is_screen(environ: Mapping[str, str]) -> bool:
    """Whether somebody looks at a terminal that can do more than print."""
    is_watched = sys.stdin.isatty() and sys.stdout.isatty()
    return is_watched and environ.get("TERM") not in {None, "", "dumb", "unknown"}


async def _fetch(connection: ServerConnection) -> Any:  # noqa: ANN401  # JSON
    async with connection:
        return await connection.fetch()


def _print_page(connection: ServerConnection) -> None:
    state = TopState().received(read_live_body(asyncio.run(_fetch(connection))))
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else _PAGE_WIDTH
    Console(width=width, highlight=False).print(page(state, connection.url, width), soft_wrap=True)


def _watch(connection: ServerConnection, interval_seconds: float) -> None:
    """Take the screen until asked to leave. Mistakes are told before that, on a screen still in order."""
    from server.top.app import TopApp  # noqa: PLC0415  # Textual, for those who watch

    with suppress(SilentServerError):  # it may be starting: the screen says so, and goes on asking
        read_live_body(asyncio.run(_fetch(connection)))
    app = TopApp(connection, connection.url, interval_seconds, time.monotonic)
    app.run()
    if app.failure is not None:
        raise app.failure
