"""The database as the writer sees it: takes groups of rows, deletes old ones, and fails in two ways only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine, Executable, delete, select
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from server.ledger.database import first_line
from server.ledger.errors import LedgerRowsRefusedError, LedgerUnavailableError
from server.ledger.row import LedgerRow
from server.ledger.statements import charge_rows, encode_charges, encode_rows, insert_rows
from server.ledger.tables import requests


class RowStore(Protocol):
    """Where rows become durable. Used by one thread.

    Each method raises LedgerUnavailableError when the store cannot be reached, after which it may be asked again.
    """

    def write(self, rows: Sequence[LedgerRow], late_microjoules_by_row_id: Mapping[str, int]) -> None:
        """Make rows and charges durable; those that are so already stay as they are.

        Raises:
            LedgerRowsRefusedError: one of them is unacceptable, and none of the rows may have been written.
        """
        ...

    def prune(self, before_unix_seconds: float, max_rows: int) -> int:
        """Delete rows of requests that ended before; returns how many, at most `max_rows`."""
        ...

    def close(self) -> None: ...


class DatabaseStore:
    """A RowStore over one connection, opened when it is needed and anew after it failed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        is_file = engine.dialect.name == "sqlite" and engine.url.database is not None
        self._file = Path(str(engine.url.database)) if is_file else None
        self._file_id: tuple[int, int] | None = None
        self._insert = insert_rows(engine.dialect.name)
        self._charge = charge_rows(engine.dialect.name)

    def write(self, rows: Sequence[LedgerRow], late_microjoules_by_row_id: Mapping[str, int]) -> None:
        if rows:
            self._execute(self._insert, {"rows": _encoded(rows)})
        if late_microjoules_by_row_id:
            self._execute(self._charge, {"charges": encode_charges(late_microjoules_by_row_id)})

    def prune(self, before_unix_seconds: float, max_rows: int) -> int:
        ended = requests.c.ended_unix_seconds
        oldest = select(requests.c.id).where(ended < before_unix_seconds).order_by(ended).limit(max_rows)
        return self._execute(delete(requests).where(requests.c.id.in_(oldest)), {})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _execute(self, statement: Executable, parameters: Mapping[str, str]) -> int:
        """Run one statement as a transaction of its own; returns how many rows it touched."""
        self._look_at_file()
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            result = self._connection.execute(statement, parameters)
            # Ends SQLAlchemy's idea of a transaction; the database's ended with the statement.
            self._connection.commit()
            return result.rowcount
        except (DataError, IntegrityError) as error:
            self._forget_connection()
            raise LedgerRowsRefusedError(first_line(error)) from error
        except SQLAlchemyError as error:
            self._forget_connection()
            raise LedgerUnavailableError(first_line(error)) from error

    def _look_at_file(self) -> None:
        """SQLite writes on, without a word, into a file that was deleted or replaced: nobody would read those rows."""
        if self._file is None:
            return
        try:
            found = self._file.stat()
        except OSError as error:
            self._forget_file()
            raise LedgerUnavailableError(f"its file: {error.strerror}; a restart makes a new one") from error
        file_id = found.st_dev, found.st_ino
        if self._file_id not in {None, file_id}:
            self._forget_file()
        self._file_id = file_id

    def _forget_file(self) -> None:
        self._forget_connection()
        self._engine.dispose()

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def _encoded(rows: Sequence[LedgerRow]) -> str:
    try:
        return encode_rows(rows)
    except (ValueError, TypeError, AttributeError) as error:
        raise LedgerRowsRefusedError(str(error)) from error
