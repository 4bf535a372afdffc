"""How rows go into the database: a whole group as one statement with one parameter, a JSON text.

One statement is one transaction and one call into the driver, during which Python's lock is released: the event loop is
never held up row by row, and the writer, who must wait for the lock after each call, does so once a group.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Insert,
    Integer,
    String,
    TableValuedAlias,
    Text,
    Update,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from server.ledger.row import LedgerRow
from server.ledger.tables import requests

COLUMNS: Final[tuple[Column[Any], ...]] = tuple(column for column in requests.columns if column.name != "id")
_INT64: Final = 2**63


def insert_rows(dialect: str) -> Insert:
    """Inserts `encode_rows(…)`, given as `rows`. A row that is there already is left as it is."""
    item, source = _items(dialect, "rows")
    values = [item(number, column) for number, column in enumerate(COLUMNS)]
    insert = sqlite.insert(requests) if dialect == "sqlite" else postgresql.insert(requests)
    # Without a WHERE, SQLite would take ON CONFLICT for the condition of a join.
    rows = select(*values).select_from(source).where(true())
    return insert.from_select(COLUMNS, rows).on_conflict_do_nothing(index_elements=["row_id"])


def charge_rows(dialect: str) -> Update:
    """Adds `encode_charges(…)`, given as `charges`. They are totals, so that doing it twice changes nothing."""
    item, source = _items(dialect, "charges")
    charged = (
        select(item(0, requests.c.row_id).label("row_id"), item(1, requests.c.late_microjoules).label("late"))
        .select_from(source)
        .subquery("charged")
    )
    late = requests.c.late_microjoules
    return (
        update(requests)
        .where(requests.c.row_id == charged.c.row_id, late < charged.c.late)
        .values(
            energy_microjoules=func.coalesce(requests.c.energy_microjoules, 0) - late + charged.c.late,
            late_microjoules=charged.c.late,
            energy_reason=null(),
        )
    )


def encode_rows(rows: Iterable[LedgerRow]) -> str:
    """The parameter of `insert_rows`: for each row an array of its columns."""
    return _encode([[clean(getattr(row, name)) for name, clean in _CLEANERS] for row in rows])


def encode_charges(late_microjoules_by_row_id: Mapping[str, int]) -> str:
    """The parameter of `charge_rows`."""
    return _encode([[row_id, min(late, _INT64 - 1)] for row_id, late in late_microjoules_by_row_id.items()])


def _encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


Items = Callable[[int, Column[Any]], ColumnElement[Any]]


def _items(dialect: str, parameter: str) -> tuple[Items, TableValuedAlias]:
    """What reads a column's value out of an element of a JSON array, and the elements."""
    array = bindparam(parameter, type_=Text)
    if dialect == "sqlite":
        each = func.json_each(array).table_valued("value", name=parameter)
        return lambda number, _: func.json_extract(each.c.value, literal_column(f"'$[{number}]'")), each
    elements = func.jsonb_array_elements(cast(array, postgresql.JSONB)).table_valued("value", name=parameter)

    def item(number: int, column: Column[Any]) -> ColumnElement[Any]:
        arrow = "->" if isinstance(column.type, JSON) else "->>"
        return cast(elements.c.value.op(arrow)(literal_column(str(number))), column.type)

    return item, elements


# -- what a database would refuse, made acceptable: a row is worth more than the end of an overlong name ---------------


def _cleaner(column: Column[Any]) -> Callable[[Any], Any]:
    if isinstance(column.type, String):
        length = column.type.length
        assert length is not None
        return lambda text: text if text is None else _clean_text(text, length)
    if isinstance(column.type, Float):
        return lambda number: number if number is not None and math.isfinite(number) else None
    if isinstance(column.type, BigInteger | Integer) and not isinstance(column.type, Boolean):
        return lambda number: number if number is not None and -_INT64 <= number < _INT64 else None
    if isinstance(column.type, JSON):
        return dict
    return lambda value: value


def _clean_text(text: str, length: int) -> str:
    """PostgreSQL knows neither NUL nor half a surrogate pair."""
    if not text.isascii() or "\0" in text:
        text = text.encode(errors="replace").decode().replace("\0", "")
    return text if len(text) <= length else text[:length]


_CLEANERS: Final = tuple((column.name, _cleaner(column)) for column in COLUMNS)
