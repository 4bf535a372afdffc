"""A dashboard from its rows of panels: where each stands, and what all dashboards have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    RowPanel,
    VariableModel,
)

TAG: Final = "wattline"
_WIDTH: Final = 24  # columns of Grafana's grid
_SCHEMA_VERSION: Final = 39  # Grafana 10.4's; newer ones bring it up to date as they load it


class Builder(Protocol):
    """A panel that is not built yet."""

    def build(self) -> Panel: ...


class VariableBuilder(Protocol):
    """A variable that is not built yet."""

    def build(self) -> VariableModel: ...


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, from left to right and line by line."""

    title: str
    panels: Sequence[Builder]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard as its file says it. `uid` stays what it is for ever: links lead to it."""

    uid: str
    title: str
    description: str
    variables: Sequence[VariableBuilder]
    rows: Sequence[Row]

    def build(self) -> Dashboard:
        """The dashboard, with every panel in its place and under a number of its own."""
        built = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .time("now-1h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .link(
                dashboard.DashboardLink("Wattline")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .as_dropdown(as_dropdown=True)
                .include_vars(include_vars=True)
                .keep_time(keep_time=True)
            )
            .build()
        )
        built.schema_version = _SCHEMA_VERSION
        built.templating.list_val = [variable.build() for variable in self.variables]
        built.panels = _placed(self.rows)
        return built


def _placed(rows: Sequence[Row]) -> list[Panel | RowPanel]:
    placed: list[Panel | RowPanel] = []
    top = 0
    for row in rows:
        heading = dashboard.Row(row.title).build()
        heading.id_val, heading.grid_pos = len(placed) + 1, GridPos(h=1, w=_WIDTH, x=0, y=top)
        placed.append(heading)
        left, top, height = 0, top + 1, 0
        for builder in row.panels:
            panel = builder.build()
            assert panel.grid_pos is not None
            if left + panel.grid_pos.w > _WIDTH:
                left, top, height = 0, top + height, 0
            panel.id_val, panel.grid_pos.x, panel.grid_pos.y = len(placed) + 1, left, top
            left, height = left + panel.grid_pos.w, max(height, panel.grid_pos.h)
            placed.append(panel)
        top += height
    return placed
