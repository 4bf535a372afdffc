"""`wattline keys`: bearer keys, made and ended. A running server notices within two seconds, or at once on SIGHUP."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from sqlalchemy.exc import SQLAlchemyError

from server.access.database_keys import DatabaseKeyStore
from server.access.key import StoredKey
from server.access.key_lifecycle import create_key, public_fields, revoke_key, rotate_key
from server.errors import SettingError, StartError
from server.ledger.address import default_ledger_url, ledger_address, shown_address
from server.ledger.database import first_line, open_database

keys_app = typer.Typer(no_args_is_help=True, help="Keys that callers of the server need.")

_DEFAULT_GRACE_HOURS: Final = 24.0
_COLUMNS: Final = ("KEY ID", "TENANT", "NAME", "STATE", "CREATED", "EXPIRES", "REVOKED")
_Ledger = Annotated[
    str | None, typer.Option("--ledger", help="URL of the ledger's database [the server's, WATTLINE_LEDGER_URL].")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@keys_app.command("create")
def create(
    tenant: Annotated[str, typer.Option(help="Whose requests, limits and joules those with the key are.")],
    name: Annotated[str, typer.Option(help="What the key is for, to tell it from others.")],
    expires_days: Annotated[float | None, typer.Option(help="How long it is valid [for ever].")] = None,
    ledger: _Ledger = None,
    as_json: _AsJson = False,
) -> None:
    """Make a key and print it, this once: only its hash is stored."""
    with _store(ledger, upgrade=True) as store:
        _print_new(*create_key(store, tenant, name, expires_days, time.time()), as_json=as_json)


@keys_app.command("list")
def list_keys(ledger: _Ledger = None, as_json: _AsJson = False) -> None:
    """Show every key there is or was, without its secret."""
    now = time.time()
    with _store(ledger) as store:
        keys = store.keys()
    typer.echo(json.dumps([public_fields(key, now) for key in keys]) if as_json else _table(keys, now))


@keys_app.command("rotate")
def rotate(
    key_id: Annotated[str, typer.Argument(help="The key to replace.")],
    grace_hours: Annotated[float, typer.Option(help="How long the old key stays valid.")] = _DEFAULT_GRACE_HOURS,
    ledger: _Ledger = None,
    as_json: _AsJson = False,
) -> None:
    """Make a key like another and print it, this once; the old one ends after a grace."""
    with _store(ledger) as store:
        _print_new(*rotate_key(store, key_id, grace_hours, time.time()), as_json=as_json)


@keys_app.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(help="The key to end now.")], ledger: _Ledger = None) -> None:
    """End a key now. Requests that run already run to their end."""
    with _store(ledger) as store:
        key = revoke_key(store, key_id, time.time())
    typer.echo(f"revoked {key.key_id} of tenant {key.tenant}", err=True)


@contextmanager
def _store(url: str | None, *, upgrade: bool = False) -> Iterator[DatabaseKeyStore]:
    """The keys in the ledger's database, which is made where `upgrade` says so.

    Raises:
        SettingError: no database is meant.
        StartError: it cannot be opened or used.
    """
    address = ledger_address(url or os.environ.get("WATTLINE_LEDGER_URL") or default_ledger_url(os.environ))
    if address is None:
        raise SettingError("ledger_url = 'none': keys are kept in the ledger's database; expected the URL of one")
    engine = open_database(address, upgrade=upgrade)
    try:
        yield DatabaseKeyStore(engine)
    except SQLAlchemyError as error:
        shown = shown_address(address)
        raise StartError(f"ledger_url = {shown!r}: cannot be used: {first_line(error)}") from error
    finally:
        engine.dispose()


def _print_new(key: StoredKey, token: str, *, as_json: bool) -> None:
    """The token alone on standard output, for whoever assigns it to a variable; the rest is for the eye."""
    if as_json:
        typer.echo(json.dumps({**public_fields(key, key.created_unix_seconds), "key": token}))
        return
    typer.echo(token)
    expires = "" if key.expires_unix_seconds is None else f", until {_day(key.expires_unix_seconds)}"
    typer.echo(f"key {key.key_id} of tenant {key.tenant}{expires}; it is not shown again", err=True)


def _table(keys: Sequence[StoredKey], now_unix_seconds: float) -> str:
    rows = [_COLUMNS]
    rows += [
        (
            key.key_id,
            key.tenant,
            key.name,
            key.state(now_unix_seconds),
            _day(key.created_unix_seconds),
            _day(key.expires_unix_seconds),
            _day(key.revoked_unix_seconds),
        )
        for key in keys
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _day(unix_seconds: float | None) -> str:
    return "-" if unix_seconds is None else datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M")
