"""The tables of workers, requests and tenants, made from a live body."""

from collections.abc import Callable, Mapping
from typing import Final

from server.top.grid import Cell, Column, Grid, Row, Style, number_cell, text_cell
from server.top.live_body import LiveBody, LiveRequest, LiveTenant, LiveWorker, total_watts
from server.top.state import TopState
from server.units import UNKNOWN, format_age, format_count, format_joules, format_ratio, format_seconds, format_watts

_ID_LENGTH: Final = 24
_STATE_STYLES: Final[Mapping[str, Style]] = {
    "ready": "good",
    "starting": "warn",
    "backing_off": "bad",
    "stopped": "bad",
    "parked": "faint",
    "parking": "faint",
}
_OUTCOME_STYLES: Final[Mapping[str, Style]] = {
    "completed": "good",
    "failed": "bad",
    "refused": "warn",
    "aborted": "warn",
}
_LITTLE_LEFT: Final = 0.1

_WORKER_COLUMNS: Final = (
    Column("worker"),
    Column("state"),
    Column("model", 6),
    Column("running", 1, is_number=True),
    Column("waiting", 2, is_number=True),
    Column("power", 0, is_number=True),
    Column("J/token", 1, is_number=True),
    Column("tokens/s", 4, is_number=True),
    Column("energy", 3, is_number=True),
    Column("meter", 1),
)
_REQUEST_COLUMNS: Final = (
    Column("ago", is_number=True),
    Column("request", 3),
    Column("tenant", 2),
    Column("model", 6),
    Column("tier", 5),
    Column("outcome", 1),
    Column("prompt", 4, is_number=True),
    Column("output", 1, is_number=True),
    Column("energy", 0, is_number=True),
    Column("J/token", 1, is_number=True),
    Column("took", 2, is_number=True),
)
_TENANT_COLUMNS: Final = (
    Column("tenant"),
    Column("requests", 1, is_number=True),
    Column("tokens", 1, is_number=True),
    Column("energy", 0, is_number=True),
    Column("share", 2, is_number=True),
    Column("J/token", 3, is_number=True),
    Column("budget left", 0, is_number=True),
)


def workers_grid(body: LiveBody) -> Grid:
    """One row for each worker, in the server's order."""
    return Grid(_WORKER_COLUMNS, tuple(map(_worker_row, body.workers)))


def requests_grid(body: LiveBody) -> Grid:
    """The requests that ended last, the latest first."""
    latest_first = sorted(body.recent_requests, key=lambda request: -request.ended_unix_seconds)
    rows = tuple(_request_row(request, body.at_unix_seconds) for request in latest_first)
    return Grid(_REQUEST_COLUMNS, rows)


def tenants_grid(body: LiveBody) -> Grid:
    """One row for each tenant, whoever used most first."""
    known = [tenant.energy_joules for tenant in body.tenants if tenant.energy_joules is not None]
    rows = tuple(_tenant_row(tenant, sum(known)) for tenant in body.tenants)
    return Grid(_TENANT_COLUMNS, rows).sorted("energy")


GRIDS: Final[Mapping[str, Callable[[LiveBody], Grid]]] = {
    "workers": workers_grid,
    "requests": requests_grid,
    "tenants": tenants_grid,
}


def grid_of(state: TopState, view: str) -> Grid:
    """A view's table as it is to be shown: filtered and sorted; without rows while nothing is known."""
    make = GRIDS[view]
    body = state.shown
    grid = make(LiveBody(object="energy.live", at_unix_seconds=0) if body is None else body)
    return grid.filtered(state.needle).sorted(state.sorting.get(view))


def _worker_row(worker: LiveWorker) -> Row:
    watts = total_watts(worker.power_watts)
    rate = worker.output_tokens_per_second
    per_token = watts / rate if watts is not None and rate else None
    parts = ", ".join(f"{name} {format_watts(value)}" for name, value in worker.power_watts.items())
    detail = f"{worker.worker_id}: {parts or 'no power is known'}; {_nature(worker)}"
    cells = (
        text_cell(worker.worker_id),
        Cell(worker.state.replace("_", " "), worker.state, _STATE_STYLES.get(worker.state, "")),
        text_cell(worker.model),
        _count(worker.running_requests),
        _count(worker.waiting_requests),
        number_cell(format_watts(watts), watts),
        _joules_per_token(per_token, is_idle=rate == 0),
        number_cell(format_count(rate), rate),
        number_cell(format_joules(worker.energy_joules), worker.energy_joules),
        _meter(worker),
    )
    return Row(worker.worker_id, cells, detail)


def _nature(worker: LiveWorker) -> str:
    """The meter, in full."""
    words = "not known" if worker.source is None else f"{'measured' if worker.measured else 'not measured'}"
    source = "" if worker.source is None else f" ({worker.source})"
    reason = "" if worker.reason is None else f": {worker.reason}"
    return f"energy {words}{source}{reason}"


def _meter(worker: LiveWorker) -> Cell:
    if worker.source is None:
        return Cell(UNKNOWN, None, "faint")
    if worker.measured:
        return Cell(f"measured {worker.source}", worker.source, "good")
    return Cell("estimated" if worker.source == "estimate" else f"{worker.source}, not measured", worker.source, "warn")


def _request_row(request: LiveRequest, now_unix_seconds: float) -> Row:
    ago = max(0.0, now_unix_seconds - request.ended_unix_seconds)
    energy, tokens = request.energy_joules, request.output_tokens
    per_token = energy / tokens if energy is not None and tokens else None
    nature = "measured" if request.measured else "not measured"
    why = f": {request.reason}" if request.reason else ""
    detail = f"{request.request_id}: energy {'not known' if energy is None else nature}{why}"
    cells = (
        Cell(format_age(ago), request.ended_unix_seconds),
        text_cell(_shortened(request.request_id)),
        text_cell(request.tenant),
        text_cell(request.model),
        text_cell(request.tier),
        text_cell(request.outcome, _OUTCOME_STYLES.get(request.outcome or "", "")),
        _count(request.prompt_tokens),
        _count(tokens),
        number_cell(format_joules(energy), energy),
        _joules_per_token(per_token, is_idle=tokens == 0),
        number_cell(format_seconds(request.duration_seconds), request.duration_seconds),
    )
    return Row(request.request_id, cells, detail)


def _tenant_row(tenant: LiveTenant, total_joules: float) -> Row:
    energy = tenant.energy_joules
    share = energy / total_joules if energy is not None and total_joules > 0 else None
    per_token = energy / tenant.output_tokens if energy is not None and tenant.output_tokens else None
    text, left, style = _budget(tenant)
    cells = (
        text_cell(tenant.tenant),
        _count(tenant.requests),
        _count(tenant.output_tokens),
        number_cell(format_joules(energy), energy),
        number_cell(format_ratio(share), share),
        _joules_per_token(per_token, is_idle=tenant.output_tokens == 0),
        Cell(text, left, style),
    )
    budgets = "; ".join(
        f"{budget.period}: {format_joules(budget.remaining_joules)} of {format_joules(budget.budget_joules)} left"
        for budget in tenant.budgets
    )
    return Row(tenant.tenant, cells, f"{tenant.tenant}: {budgets or 'no energy budget'}")


def _budget(tenant: LiveTenant) -> tuple[str, float | None, Style]:
    """The tightest one: what is left of it, as a share."""
    tightest: tuple[str, float | None, Style] = ("none" if not tenant.budgets else UNKNOWN, None, "faint")
    for budget in tenant.budgets:
        if not budget.budget_joules or budget.remaining_joules is None:
            continue
        left = max(0.0, budget.remaining_joules) / budget.budget_joules
        if tightest[1] is None or left < tightest[1]:
            style: Style = "bad" if left == 0 else "warn" if left < _LITTLE_LEFT else "good"
            tightest = f"{format_ratio(left)} of the {budget.period}'s", left, style
    return tightest


def _count(value: int | None) -> Cell:
    return number_cell(format_count(value), value)


def _joules_per_token(per_token: float | None, *, is_idle: bool) -> Cell:
    """Who makes no tokens has no joules for each: that is neither 0 nor unknown."""
    if per_token is None and is_idle:
        return Cell("–", None, "faint")
    return number_cell(UNKNOWN if per_token is None else format_joules(per_token).removesuffix(" J"), per_token)


def _shortened(text: str) -> str:
    return text if len(text) <= _ID_LENGTH else f"{text[: _ID_LENGTH - 1]}…"
