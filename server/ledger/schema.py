"""Brings a database to this version's schema, or refuses it. Several processes may start at once."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from server.ledger.errors import LedgerOpenError

# In the order of `migrations/versions`; a test holds the two together. Known here because Alembic takes a quarter of a
# second to import, and a database that needs no migration needs no Alembic.
REVISIONS: Final = ("0001",)
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Of the advisory lock that migrations on PostgreSQL hold: any number that nobody else would take.
_LOCK_KEY: Final = 0x77617474
_WAL_ATTEMPTS: Final = 50
_WAL_PAUSE_SECONDS: Final = 0.1


def schema_version(connection: Connection) -> str | None:
    """The revision the database is at, None where it has no schema of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade_schema(engine: Engine) -> None:
    """Bring the database to the newest revision.

    Raises:
        LedgerOpenError: a newer Wattline has written it.
        SQLAlchemyError: the database failed.
    """
    if engine.dialect.name == "sqlite":
        _use_write_ahead_log(engine)
    with engine.connect() as connection:
        if _known_version(connection) == REVISIONS[-1]:
            return
    with _alone(engine) as connection:
        # Another process may have been here between the two looks.
        if _known_version(connection) != REVISIONS[-1]:
            _run_migrations(connection)


def require_current_schema(engine: Engine) -> None:
    """Make sure the database is at the newest revision, and change nothing.

    Raises:
        LedgerOpenError: it is at another, or has none.
        SQLAlchemyError: the database failed.
    """
    with engine.connect() as connection:
        version = _known_version(connection)
    if version != REVISIONS[-1]:
        raise LedgerOpenError(f"its schema is {version or 'missing'}, and {REVISIONS[-1]} is needed: start the server")


def _known_version(connection: Connection) -> str | None:
    version = schema_version(connection)
    if version is not None and version not in REVISIONS:
        raise LedgerOpenError(f"its schema {version} is newer than this Wattline, which knows up to {REVISIONS[-1]}")
    return version


def _run_migrations(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  # see REVISIONS
    from alembic.config import Config  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other process's migration runs beside."""
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            yield connection
        return
    # The driver would begin a transaction only at the first change; all that is read before must be in it too.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")


def _use_write_ahead_log(engine: Engine) -> None:
    """Readers then never wait for the writer. The file remembers it; SQLite does not wait for its turn to change it."""
    for attempt in range(1, _WAL_ATTEMPTS + 1):
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                return
        except OperationalError as error:
            if "locked" not in str(error.orig) or attempt == _WAL_ATTEMPTS:
                raise
        time.sleep(_WAL_PAUSE_SECONDS)
