"""The kinds of panel there are here, each with its looks decided once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from deploy.grafana.promql import Query
from deploy.grafana.variables import DATASOURCE

STAT_HEIGHT: Final = 4
PANEL_HEIGHT: Final = 8
GREEN, ORANGE, RED = "green", "orange", "red"

_Built = TypeVar("_Built", timeseries.Panel, stat.Panel, table.Panel, heatmap.Panel, bargauge.Panel)


@dataclass(frozen=True, slots=True)
class Label:
    """A column of a table that is a label of its series."""

    name: str
    title: str


def over_time(
    title: str, description: str, unit: str, *queries: Query, span: int = 12, is_stacked: bool = False
) -> timeseries.Panel:
    """Lines over time, stacked where they are parts of one thing. Targets, so called, are dashed."""
    panel = (
        _framed(timeseries.Panel(), title, description, span, PANEL_HEIGHT)
        .unit(unit)
        .axis_soft_min(0)
        .show_points(VisibilityMode.NEVER)
        .fill_opacity(40 if is_stacked else 8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .override_by_regexp(
            "/target/",
            [
                DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
                DynamicConfigValue("custom.fillOpacity", 0),
                DynamicConfigValue("color", {"mode": "fixed", "fixedColor": RED}),
            ],
        )
    )
    if is_stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return _asking(panel, [_ranged(query) for query in queries])


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    span: int = 4,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    decimals: int | None = None,
) -> stat.Panel:
    """One number as it is now, or over the range shown. It takes the colour of the highest step it has reached."""
    panel = (
        _framed(stat.Panel(), title, description, span, STAT_HEIGHT)
        .unit(unit)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(
            dashboard.ThresholdsConfig()
            .mode(ThresholdsMode.ABSOLUTE)
            .steps([Threshold(value, color) for value, color in steps])
        )
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _asking(panel, [_instant(query)])


def bars(title: str, description: str, unit: str, query: Query, *, span: int = 12) -> bargauge.Panel:
    """One bar for each series, as it is now or over the range shown."""
    panel = (
        _framed(bargauge.Panel(), title, description, span, PANEL_HEIGHT)
        .unit(unit)
        .min(0)
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if unit == "percentunit":
        panel.max(1)
    return _asking(panel, [_instant(query)])


def heat(title: str, description: str, unit: str, expression: str, *, span: int = 12) -> heatmap.Panel:
    """How a histogram's observations are spread over its buckets, over time. `expression` is by `le`."""
    target = _ranged(Query(expression, "{{le}}")).format(PromQueryFormat.HEATMAP)
    panel = (
        _framed(heatmap.Panel(), title, description, span, PANEL_HEIGHT)
        .calculate(calculate=False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_gap(1)
        .show_legend()
    )
    return _asking(panel, [target])


def rows(title: str, description: str, labels: Sequence[Label], *queries: Query, span: int = 24) -> table.Panel:
    """A table of instant queries, one column each, joined on the labels."""
    columns = {f"Value #{_ref_id(place)}": query for place, query in enumerate(queries)}
    if len(queries) == 1:
        columns = {"Value": queries[0]}  # Grafana numbers the values only where there are several
    names = {label.name: label.title for label in labels} | {name: query.legend for name, query in columns.items()}
    order = {name: place for place, name in enumerate(names)}
    panel = (
        _framed(table.Panel(), title, description, span, PANEL_HEIGHT)
        .with_transformation(DataTransformerConfig("merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                "organize", options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
            )
        )
        .filterable(filterable=True)
    )
    for query in queries:
        if query.unit is not None:
            panel.override_by_name(query.legend, [DynamicConfigValue("unit", query.unit)])
    return _asking(panel, [_instant(query).format(PromQueryFormat.TABLE) for query in queries])


def _framed(panel: _Built, title: str, description: str, span: int, height: int) -> _Built:
    return panel.title(title).description(description).span(span).height(height).datasource(DATASOURCE)


def _asking(panel: _Built, targets: Sequence[prometheus.Dataquery]) -> _Built:
    for place, target in enumerate(targets):
        panel.with_target(target.ref_id(_ref_id(place)))
    return panel


def _ranged(query: Query) -> prometheus.Dataquery:
    return _target(query).range()


def _instant(query: Query) -> prometheus.Dataquery:
    return _target(query).instant()


def _target(query: Query) -> prometheus.Dataquery:
    datasource: dict[str, Any] = DATASOURCE.to_json()
    asked = prometheus.Dataquery().expr(query.expression).datasource(datasource).editor_mode(QueryEditorMode.CODE)
    return asked.legend_format(query.legend) if query.legend else asked


def _ref_id(place: int) -> str:
    return chr(ord("A") + place)
