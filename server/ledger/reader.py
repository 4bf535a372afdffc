"""Questions to the ledger. Each blocks while the database answers: from an event loop, ask in a thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, and_, func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError

from server.ledger.address import shown_address
from server.ledger.database import first_line
from server.ledger.errors import LedgerUnavailableError
from server.ledger.row import LedgerRow
from server.ledger.schema import schema_version
from server.ledger.summary import Summary, SummaryQuery
from server.ledger.summing import conditions, summarise
from server.ledger.tables import requests

_PAGE_ROWS: Final = 1000
_ROW_COLUMNS: Final = tuple(requests.c[field.name] for field in fields(LedgerRow))


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """What an inspection found; `problems` is empty where all is well."""

    database: str
    schema: str | None
    rows: int
    first_unix_seconds: float | None
    last_unix_seconds: float | None
    problems: tuple[str, ...]


class LedgerReader:
    """Reads the rows that are durable; safe in any thread.

    Every method raises LedgerUnavailableError when the database does not answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def summary(self, query: SummaryQuery) -> Summary:
        """Sums over the requests a query asks for.

        Raises:
            SettingError: the query names a dimension that there is not.
        """
        with self._connection() as connection:
            return summarise(connection, query)

    def spent_microjoules(self, tenant: str, since_unix_seconds: float) -> int:
        """What a tenant's requests that ended since then have used, as far as it is known."""
        spent = func.coalesce(func.sum(requests.c.energy_microjoules), 0)
        of_tenant = and_(requests.c.tenant == tenant, requests.c.ended_unix_seconds >= since_unix_seconds)
        with self._connection() as connection:
            return int(connection.execute(select(spent).where(of_tenant)).scalar_one())

    def find(self, request_id: str, tenant: str | None = None) -> LedgerRow | None:
        """The latest request a caller made under that id; of any tenant, or of this one alone."""
        wanted = requests.c.request_id == request_id
        if tenant is not None:
            wanted = and_(wanted, requests.c.tenant == tenant)
        latest = select(*_ROW_COLUMNS).where(wanted).order_by(requests.c.id.desc()).limit(1)
        with self._connection() as connection:
            row = connection.execute(latest).first()
        return None if row is None else _ledger_row(row)

    def rows(self, since_unix_seconds: float | None, until_unix_seconds: float | None) -> Iterator[LedgerRow]:
        """Every row of the time, in the order the requests ended.

        Page by page, each in a transaction of its own: one that lasted for the whole export would keep SQLite from
        emptying its write-ahead log.
        """
        period = conditions(SummaryQuery((), since_unix_seconds, until_unix_seconds))
        ended, number = requests.c.ended_unix_seconds, requests.c.id
        page = select(number, *_ROW_COLUMNS).where(*period).order_by(ended, number).limit(_PAGE_ROWS)
        rest = page
        while True:
            with self._connection() as connection:
                found = connection.execute(rest).all()
            for row in found:
                yield _ledger_row(row[1:])
            if len(found) < _PAGE_ROWS:
                return
            last = found[-1]
            after = and_(ended == last.ended_unix_seconds, number > last.id)
            rest = page.where(ended >= last.ended_unix_seconds, or_(ended > last.ended_unix_seconds, after))

    def check(self) -> LedgerCheck:
        """Inspect the database and what the rows say. Reads every row."""
        ended = requests.c.ended_unix_seconds
        with self._connection() as connection:
            count, first, last = connection.execute(select(func.count(), func.min(ended), func.max(ended))).one()
            schema = schema_version(connection)
            problems = [*_damage(connection), *_contradictions(connection)]
        return LedgerCheck(shown_address(self._engine.url), schema, count, first, last, tuple(problems))

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise LedgerUnavailableError(f"the ledger's database does not answer: {first_line(error)}") from error


def _ledger_row(values: Row[Any] | tuple[Any, ...]) -> LedgerRow:
    return LedgerRow(*values)


def _damage(connection: Connection) -> Iterator[str]:
    """What SQLite's own inspection says; PostgreSQL's pages are its administrator's business."""
    if connection.dialect.name == "sqlite":
        for (line,) in connection.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield f"integrity check: {line}"


def _contradictions(connection: Connection) -> Iterator[str]:
    columns = requests.c
    told = columns.energy_microjoules - columns.late_microjoules
    checks = {
        "have parts that do not add up to their energy": columns.prefill_microjoules + columns.decode_microjoules
        != told,
        "have negative energy": columns.energy_microjoules < 0,
    }
    for problem, is_wrong in checks.items():
        if count := connection.execute(select(func.count()).where(is_wrong)).scalar_one():
            yield f"{count} row(s) {problem}"
    repeated = select(columns.row_id).group_by(columns.row_id).having(func.count() > 1).subquery()
    if count := connection.execute(select(func.count()).select_from(repeated)).scalar_one():
        yield f"{count} row id(s) appear more than once"
