"""The report as one HTML page that needs nothing else: its style and drawings are in it."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from server.ledger.summary import Summary, SummaryQuery, Totals
from server.report.chart import Chart, ranking_chart, shown_energy, stacked_chart
from server.report.figures import JOULES_PER_KWH
from server.report.text import TABLE_HEADINGS, notes, shown_key, table_cells

_TEMPLATE: Final = "page.html.j2"
_HOURLY_UP_TO_DAYS: Final = 2
_DAILY_UP_TO_DAYS: Final = 92
_FORMATS: Final = {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of the head of the page."""

    name: str
    value: str


def html_report(summary: Summary, ask: Callable[[SummaryQuery], Summary], now_unix_seconds: float) -> str:
    """The page for a summary; `ask` gets what its plots need beside it."""
    query = summary.query
    dimension, by_time = _by_time(query, ask)
    by_tenant = ask(_with_dimensions(query, "tenant"))
    environment = Environment(
        loader=PackageLoader("server.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        period=_shown_period(query),
        filters=query.filters,
        tiles=_tiles(summary.total),
        dimension=dimension,
        time_chart=_time_chart(dimension, by_time),
        tenant_chart=ranking_chart({group.key[0]: group.totals.energy_microjoules for group in by_tenant.groups}),
        by=query.by,
        headings=TABLE_HEADINGS,
        rows=[(list(map(shown_key, group.key)), table_cells(group.totals)) for group in summary.groups],
        total=table_cells(summary.total),
        notes=notes(summary.total),
        written=_shown_instant(now_unix_seconds),
    )


def _by_time(query: SummaryQuery, ask: Callable[[SummaryQuery], Summary]) -> tuple[str, Summary]:
    """Energy by model and day; by hour or month where the days are very few or very many."""
    by_day = ask(_with_dimensions(query, "day", "model"))
    days = [datetime.fromisoformat(group.key[0]) for group in by_day.groups]
    span_days = (max(days) - min(days)).days + 1 if days else 1
    if span_days <= _HOURLY_UP_TO_DAYS:
        return "hour", ask(_with_dimensions(query, "hour", "model"))
    if span_days <= _DAILY_UP_TO_DAYS:
        return "day", by_day
    return "month", ask(_with_dimensions(query, "month", "model"))


def _with_dimensions(query: SummaryQuery, *by: str) -> SummaryQuery:
    return SummaryQuery(by, query.since_unix_seconds, query.until_unix_seconds, query.filters)


def _time_chart(dimension: str, summary: Summary) -> Chart:
    energy: defaultdict[tuple[str, str], int] = defaultdict(int)
    for group in summary.groups:
        energy[group.key[0], group.key[1]] += group.totals.energy_microjoules
    return stacked_chart(_instants(dimension, sorted({instant for instant, _ in energy})), energy)


def _instants(dimension: str, known: list[str]) -> list[str]:
    """From the first to the last without a gap: a day on which nothing ran is a day all the same."""
    if not known:
        return []
    step = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=31)}[dimension]
    shown_as = _FORMATS[dimension]
    at = datetime.strptime(known[0], shown_as).replace(tzinfo=UTC)
    instants = [known[0]]
    while instants[-1] < known[-1]:
        at += step
        if dimension == "month":
            at = at.replace(day=1)
        instants.append(at.strftime(shown_as))
    return instants


def _tiles(total: Totals) -> list[Tile]:
    per_token, carbon = total.joules_per_output_token, total.known_carbon_g_co2eq
    tiles = [
        Tile("energy", shown_energy(total.energy_microjoules)),
        Tile("kWh", f"{total.energy_joules / JOULES_PER_KWH:,.4g}"),
        Tile("requests", f"{total.requests:,}"),
        Tile("output tokens", f"{total.output_tokens:,}"),
        Tile("J per output token", "-" if per_token is None else f"{per_token:.3g}"),
    ]
    if carbon is not None:
        tiles.append(Tile("g CO2eq", f"{carbon:,.4g}"))
    return tiles


def _shown_period(query: SummaryQuery) -> str:
    since, until = query.since_unix_seconds, query.until_unix_seconds
    if since is None and until is None:
        return "all requests"
    begin = f"from {_shown_instant(since)} " if since is not None else ""
    return f"{begin}{'until ' + _shown_instant(until) if until is not None else 'on'}"


def _shown_instant(unix_seconds: float) -> str:
    instant = datetime.fromtimestamp(unix_seconds, UTC)
    is_midnight = unix_seconds % 86_400 == 0
    return instant.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%d %H:%M UTC")
