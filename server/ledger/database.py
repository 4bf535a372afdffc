"""Connections to the ledger's database, tuned for what a ledger does. Knows nothing of rows."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from server.ledger.address import create_private_file, shown_address
from server.ledger.errors import LedgerOpenError
from server.ledger.schema import require_current_schema, upgrade_schema
from server.ledger.settings import Synchronous

# How long one process waits for another that is writing to the same SQLite file.
_SQLITE_BUSY_SECONDS: Final = 5.0
# A database that does not answer must be noticed before callers' patience ends; libpq would wait for minutes.
_POSTGRESQL_PATIENCE: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "wattline",
}


def open_database(address: URL, *, upgrade: bool, synchronous: Synchronous = "normal") -> Engine:
    """The database, with the schema of this version: brought up to it, or just found to be there.

    `synchronous` is SQLite's: with `full` a commit survives a power cut, with `normal` the end of the process.

    Raises:
        LedgerOpenError: it cannot be opened, or is of another version.
    """
    shown = shown_address(address)
    try:
        engine = _engine(address, synchronous)
    except SQLAlchemyError as error:  # parameters of the URL that make no sense
        raise LedgerOpenError(f"ledger_url = {shown!r}: cannot be used: {first_line(error)}") from error
    try:
        _prepare_file(address, create=upgrade)
        (upgrade_schema if upgrade else require_current_schema)(engine)
    except (LedgerOpenError, OSError) as error:
        engine.dispose()
        raise LedgerOpenError(f"ledger_url = {shown!r}: {error}") from error
    except SQLAlchemyError as error:
        engine.dispose()
        raise LedgerOpenError(f"ledger_url = {shown!r}: cannot be used: {first_line(error)}") from error
    return engine


def first_line(error: SQLAlchemyError) -> str:
    """What the database said, without the statement and its parameters."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def _prepare_file(address: URL, *, create: bool) -> None:
    if address.get_backend_name() != "sqlite" or address.database is None:
        return
    path = Path(address.database)
    if create:
        create_private_file(path)
    elif not path.exists():
        raise LedgerOpenError("there is no ledger; `wattline serve` makes one")


def _engine(address: URL, synchronous: Synchronous) -> Engine:
    if address.get_backend_name() == "sqlite":
        engine = create_engine(address, connect_args={"timeout": _SQLITE_BUSY_SECONDS})

        @event.listens_for(engine, "do_connect")
        def open_existing(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
            """One that was deleted must not come back empty, and readable by everybody."""
            arguments[0] = f"file:{quote(arguments[0])}?mode=rw"
            options["uri"] = True

        @event.listens_for(engine, "connect")
        def tune(connection: Any, _: object) -> None:  # noqa: ANN401  # the driver's own connection
            connection.execute(f"PRAGMA synchronous = {synchronous}")

        return engine
    arguments = {key: value for key, value in _POSTGRESQL_PATIENCE.items() if key not in address.query}
    return create_engine(address, connect_args=arguments, pool_pre_ping=True, pool_size=2)
