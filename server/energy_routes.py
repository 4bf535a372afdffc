"""`/v1/energy`: what the ledger knows, for callers. A tenant's key sees its own requests, and no others."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from metering.counter import MICROJOULES_PER_JOULE
from server.api_error import ApiError
from server.errors import SettingError
from server.ledger.errors import LedgerUnavailableError
from server.ledger.ledger import DatabaseLedger, NoLedger
from server.ledger.reader import LedgerReader
from server.ledger.row import LedgerRow
from server.ledger.summary import COLUMN_DIMENSIONS, DIMENSIONS, Summary, SummaryQuery
from server.report.figures import summary_body
from server.report.period import PERIODS, report_bounds

# Sums over a year read every row of it: enough to keep both a database and its callers from crowding out the engines.
_SUMMARIES_AT_A_TIME: Final = 2
_MAX_GROUPS: Final = 10_000
_PARAMETERS: Final = frozenset({"by", "since", "until", "period", *COLUMN_DIMENSIONS})

Authorise = Callable[[Request], str | None]


def add_energy_routes(app: FastAPI, ledger: DatabaseLedger | NoLedger, authorise: Authorise) -> None:
    """Add the routes. `authorise` gives the one tenant a caller may see, None for all, or raises its ApiError."""
    turn = asyncio.Semaphore(_SUMMARIES_AT_A_TIME)

    @app.get("/v1/energy/summary", summary="What requests cost in all, by tenant, model, tier and time.")
    async def summary(
        request: Request,
        by: Annotated[str | None, Query(description=f"Some of {', '.join(DIMENSIONS)}; comma-separated.")] = None,
        since: Annotated[str | None, Query(description="A date, a time or Unix seconds; included.")] = None,
        until: Annotated[str | None, Query(description="A date, a time or Unix seconds; not included.")] = None,
        period: Annotated[str | None, Query(description=f"In place of both: {', '.join(PERIODS)}.")] = None,
    ) -> JSONResponse:
        tenant = authorise(request)
        query = _query(by, _bounds(since, until, period), _filters(request, tenant))
        async with turn:
            return _answer(summary_body(await _summary(_reader(ledger), query)))

    @app.get("/v1/energy/requests/{request_id}", summary="What one request cost.")
    async def one_request(request: Request, request_id: str) -> JSONResponse:
        tenant, reader = authorise(request), _reader(ledger)
        try:
            # No id holds a NUL, and PostgreSQL will not look for one.
            row = None if "\0" in request_id else await asyncio.to_thread(reader.find, request_id, tenant)
        except LedgerUnavailableError as error:
            raise _unavailable() from error
        if row is None:
            raise ApiError(404, "there is no such request in the ledger", "request_not_found", "request_id")
        return _answer(row_body(row))


def row_body(row: LedgerRow) -> dict[str, Any]:
    """A row as callers see it: joules for microjoules, and nothing of how rows are kept."""
    body: dict[str, Any] = {"object": "energy.request"}
    for name, value in asdict(row).items():
        if name == "components_microjoules":
            body["components_joules"] = {part: energy / MICROJOULES_PER_JOULE for part, energy in value.items()}
        elif name.endswith("_microjoules"):
            body[name.removesuffix("microjoules") + "joules"] = None if value is None else value / MICROJOULES_PER_JOULE
        elif name not in {"row_id", "late_microjoules"}:
            body[name] = value
    return body


def _reader(ledger: DatabaseLedger | NoLedger) -> LedgerReader:
    if ledger.reader is None:
        raise ApiError(404, "this server keeps no ledger (ledger_url = none)", "no_ledger")
    return ledger.reader


async def _summary(reader: LedgerReader, query: SummaryQuery) -> Summary:
    try:
        summary = await asyncio.to_thread(reader.summary, query)
    except SettingError as error:
        raise ApiError(400, str(error), param="by") from error
    except LedgerUnavailableError as error:
        raise _unavailable() from error
    if len(summary.groups) > _MAX_GROUPS:
        raise ApiError(
            400, f"by: more than {_MAX_GROUPS} groups; ask for a shorter time or fewer dimensions", param="by"
        )
    return summary


def _query(by: str | None, bounds: tuple[float | None, float | None], filters: dict[str, str]) -> SummaryQuery:
    dimensions = tuple(part.strip() for part in by.split(",")) if by else ()
    return SummaryQuery(dimensions, *bounds, filters)


def _bounds(since: str | None, until: str | None, period: str | None) -> tuple[float | None, float | None]:
    try:
        return report_bounds(since, until, period, time.time())
    except SettingError as error:
        raise ApiError(400, str(error), param=str(error).split(" ", 1)[0]) from error


def _filters(request: Request, tenant: str | None) -> dict[str, str]:
    """The columns a caller asks for by value, and his own tenant whatever he asks."""
    given = request.query_params
    for name in given:
        if name not in _PARAMETERS:
            raise ApiError(400, f"{name}: there is no such parameter", param=name)
        if len(given.getlist(name)) > 1:
            raise ApiError(400, f"{name}: expected once", param=name)
        if "\0" in given[name]:
            raise ApiError(400, f"{name}: expected no NUL in it", param=name)
    filters = {name: given[name] for name in COLUMN_DIMENSIONS if name in given}
    if tenant is None:
        return filters
    if filters.get("tenant", tenant) != tenant:
        raise ApiError(403, "this key sees the energy of its own tenant only", "tenant_not_allowed", "tenant")
    return filters | {"tenant": tenant}


def _unavailable() -> ApiError:
    """Without what the database said: that is for the log."""
    return ApiError(503, "the ledger does not answer now", "ledger_unavailable", headers={"Retry-After": "5"})


def _answer(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, headers={"Cache-Control": "no-store"})
