"""The one SQL statement behind every summary, and the folding of its hours and days into what was asked for.

Both databases sum BIGINTs exactly; SQLite fails loudly beyond 2^63 microjoules, which is 2.5 GWh in one group. Instants
are grouped by whole days or hours of UTC, which needs no calendar; weeks, months and years are put together from days
here. Percentiles are left to the histograms at `/metrics`: over a year of rows they would cost many times the sums.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    cast,
    func,
    literal_column,
    not_,
    select,
)

from server.errors import SettingError
from server.ledger.summary import DIMENSIONS, TIME_DIMENSIONS, Summary, SummaryGroup, SummaryQuery, Totals
from server.ledger.tables import requests

_columns: Final = requests.c
DIMENSION_COLUMNS: Final[dict[str, Column[Any]]] = {
    "tenant": _columns.tenant,
    "model": _columns.model,
    "tier": _columns.tier,
    "endpoint": _columns.endpoint,
    "outcome": _columns.outcome,
    "worker": _columns.worker_id,
}
_HOUR_SECONDS: Final = 3600
_DAY_SECONDS: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def summarise(connection: Connection, query: SummaryQuery) -> Summary:
    """Answer a query.

    Raises:
        SettingError: `by` or a filter names no dimension.
    """
    _check(query)
    groups: dict[tuple[str, ...], Totals] = {}
    for row in connection.execute(_statement(query, connection.dialect.name)):
        keys, sums = row[: len(query.by)], row[len(query.by) :]
        key = tuple(_label(dimension, value) for dimension, value in zip(query.by, keys, strict=True))
        totals = _totals(sums)
        groups[key] = groups[key] + totals if key in groups else totals
    return Summary(query, tuple(SummaryGroup(key, groups[key]) for key in sorted(groups)))


def conditions(query: SummaryQuery) -> list[ColumnElement[bool]]:
    """What of the table a query is about."""
    ended = _columns.ended_unix_seconds
    wanted: list[ColumnElement[bool]] = [DIMENSION_COLUMNS[name] == value for name, value in query.filters.items()]
    if query.since_unix_seconds is not None:
        wanted.append(ended >= query.since_unix_seconds)
    if query.until_unix_seconds is not None:
        wanted.append(ended < query.until_unix_seconds)
    return wanted


def _check(query: SummaryQuery) -> None:
    for name in query.by:
        if name not in DIMENSIONS:
            raise SettingError(f"by = {name!r}: expected some of {', '.join(DIMENSIONS)}")
    if len(set(query.by)) < len(query.by):
        raise SettingError(f"by = {','.join(query.by)!r}: a dimension is named twice")
    for name in query.filters:
        if name not in DIMENSION_COLUMNS:
            raise SettingError(f"{name}: expected some of {', '.join(DIMENSION_COLUMNS)}")


def _statement(query: SummaryQuery, dialect: str) -> Select[Any]:
    keys = [_key(dimension, dialect) for dimension in query.by]
    wanted = conditions(query)
    statement = select(*keys, *_SUMS.values()).where(and_(True, *wanted))  # noqa: FBT003  # SQL's TRUE
    return statement.group_by(*(literal_column(str(number)) for number in range(1, len(keys) + 1)))


def _key(dimension: str, dialect: str) -> ColumnElement[Any]:
    if dimension in DIMENSION_COLUMNS:
        return DIMENSION_COLUMNS[dimension]
    periods = _columns.ended_unix_seconds / (_HOUR_SECONDS if dimension == "hour" else _DAY_SECONDS)
    # SQLite's CAST cuts off, PostgreSQL's rounds; floor() is in few builds of SQLite.
    return cast(periods if dialect == "sqlite" else func.floor(periods), BigInteger)


def _label(dimension: str, value: Any) -> str:  # noqa: ANN401  # a string, or a number of hours or days
    if dimension not in TIME_DIMENSIONS:
        return "" if value is None else str(value)
    if dimension == "hour":
        return (_EPOCH + timedelta(hours=int(value))).strftime("%Y-%m-%dT%H:00Z")
    day = _EPOCH + timedelta(days=int(value))
    if dimension == "week":
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02d}"
    return day.strftime({"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}[dimension])


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _sum(value: ColumnElement[Any], condition: ColumnElement[bool] | None = None) -> ColumnElement[Any]:
    if condition is not None:
        value = case((condition, value))
    return func.coalesce(func.sum(value), 0)


def _totals(values: Any) -> Totals:  # noqa: ANN401  # a row of numbers, of PostgreSQL Decimals
    numbers: list[Any] = [
        int(value) if is_whole else float(value) for is_whole, value in zip(_IS_WHOLE, values, strict=True)
    ]
    return Totals(*numbers)


_energy: Final = _columns.energy_microjoules
_is_known: Final = _energy.is_not(None)
_is_completed: Final = _columns.outcome == "completed"
_SUMS: Final[dict[str, ColumnElement[Any]]] = {
    "requests": func.count(),
    "completed_requests": _count(_is_completed),
    "failed_requests": _count(_columns.outcome == "failed"),
    "refused_requests": _count(_columns.outcome == "refused"),
    "aborted_requests": _count(_columns.outcome == "aborted"),
    "prompt_tokens": _sum(_columns.prompt_tokens),
    "output_tokens": _sum(_columns.output_tokens),
    "measured_microjoules": _sum(_energy, _columns.is_measured.is_(True)),
    "estimated_microjoules": _sum(_energy, func.coalesce(_columns.is_measured, False).is_(False)),
    "prefill_microjoules": _sum(_columns.prefill_microjoules),
    "decode_microjoules": _sum(_columns.decode_microjoules),
    "requests_of_unknown_energy": _count(and_(not_(_is_known), _columns.outcome != "refused")),
    "output_tokens_of_known_energy": _sum(_columns.output_tokens, _is_known),
    "carbon_g_co2eq": _sum(_columns.carbon_g_co2eq),
    "microjoules_without_carbon": _sum(_energy, _columns.carbon_g_co2eq.is_(None)),
    "served_seconds": _sum(_columns.total_seconds, _is_completed),
    "queued_requests": func.count(_columns.queue_seconds),
    "queue_seconds": _sum(_columns.queue_seconds),
    "streamed_requests": func.count(_columns.first_token_seconds),
    "first_token_seconds": _sum(_columns.first_token_seconds),
}
_IS_WHOLE: Final = tuple("seconds" not in name and "carbon_g" not in name for name in _SUMS)
assert list(_SUMS) == list(Totals.__dataclass_fields__)
