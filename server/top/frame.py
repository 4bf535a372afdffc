"""Whole frames as lines of text: the title, a table, everything on one page for a printer or a pipe."""

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from server.top.grid import Grid
from server.top.overview import summary_lines
from server.top.state import VIEWS, TopState
from server.top.tables import grid_of
from server.units import UNKNOWN, format_age

STYLES: Final = {"": "", "good": "green", "warn": "yellow", "bad": "red", "faint": "dim"}
_GAP: Final = "  "
_CURVE_HEIGHT: Final = 3
_TALL_CURVE_HEIGHT: Final = 6
_TALL: Final = 32
_WIDE: Final = 100
# Of a table below others: its title, its heading and a row.
_LEAST_TABLE: Final = 3
_PRINTED_REQUESTS: Final = 10


def title_line(state: TopState, url: str, width: int) -> Text:
    """What server this is, for how long it runs, and whether its energy is measured."""
    body = state.shown
    line = Text.assemble((" wattline top ", "bold reverse"), " ", (url, "bold"))
    if body is not None:
        up = None if body.started_unix_seconds is None else body.at_unix_seconds - body.started_unix_seconds
        sources = "+".join(body.sources)
        if width >= _WIDE:
            line.append(f"  {body.version or UNKNOWN}, policy {body.policy or UNKNOWN}", "dim")
        line.append(f"  up {format_age(up)}  ", "dim")
        if not sources:
            line.append("energy not known", "yellow")
        elif body.measured:
            line.append(f"measured ({sources})", "green")
        else:
            line.append(f"not measured ({sources})", "yellow")
    line.truncate(width, overflow="ellipsis")
    return line


def notice_line(state: TopState, now: float) -> Text | None:
    """What one must know about what is on the screen; None where it is simply live."""
    notices = []
    if state.lost_at_seconds is not None:
        since = f" for {format_age(now - state.lost_at_seconds)}" if state.shown is not None else ""
        notices.append((f" No answer{since}: {state.cause}; trying again ", "bold white on red"))
    if state.is_paused:
        notices.append((" Paused: p goes on ", "bold black on yellow"))
    if state.needle:
        notices.append((f" Rows with “{state.needle}”: Escape shows all ", "black on cyan"))
    return Text(" ").join(Text(text, style=style) for text, style in notices) if notices else None


def table_lines(grid: Grid, width: int, rows: int) -> list[Text]:
    """The heading and as many rows as fit into `rows` lines; the last one says how many more there are."""
    grid = grid.fitted(width)
    widths = grid.widths()
    names = [column.name for column in grid.columns]
    right = [column.is_number for column in grid.columns]
    lines = [_line(names, ["bold dim"] * len(names), widths, right)]
    hidden = max(0, len(grid.rows) - rows)
    if hidden:
        hidden += 1
    for row in grid.rows[: len(grid.rows) - hidden]:
        styles = [STYLES[cell.style] for cell in row.cells]
        lines.append(_line([cell.text for cell in row.cells], styles, widths, right))
    if hidden:
        lines.append(Text(f"… {hidden} more", style="dim"))
    if not grid.rows:
        lines.append(Text("none", style="dim"))
    return lines


def overview(state: TopState, width: int, height: int) -> Text:
    """The first view at exactly this size: below the summary as much of workers and requests as there is room for."""
    lines = summary_lines(state, width, _TALL_CURVE_HEIGHT if height >= _TALL else _CURVE_HEIGHT)
    if state.shown is not None:
        workers = grid_of(state, "workers")
        room = height - len(lines) - 1
        if room >= _LEAST_TABLE:
            rows = max(1, len(workers.rows))
            all_fit = room - 2 - rows >= _LEAST_TABLE + 1
            lines += [Text(), *table_lines(workers, width, rows if all_fit else room - 1)]
        room = height - len(lines) - 1
        if room >= _LEAST_TABLE:
            requests = grid_of(state, "requests")
            lines += [Text(), *_newest(requests, width, room - 1)]
    return Text("\n").join(_within(line, width) for line in lines[:height])


def page(state: TopState, url: str, width: int) -> Text:
    """Everything once, for those who cannot or will not watch."""
    lines = [Text.assemble(title_line(state, url, width)), Text(), *summary_lines(state, width, 0)]
    for view in VIEWS[1:]:
        grid = grid_of(state, view)
        rows = _PRINTED_REQUESTS if view == "requests" else max(1, len(grid.rows))
        lines += [Text(), Text(view.capitalize(), style="bold"), *table_lines(grid, width, rows)]
    return Text("\n").join(_stripped(line) for line in lines)


def _newest(requests: Grid, width: int, rows: int) -> list[Text]:
    """Of the requests the newest, without a word of the others: there are always more."""
    kept = Grid(requests.columns, requests.rows[:rows], requests.sorted_by)
    return table_lines(kept, width, rows)


def _line(texts: Sequence[str], styles: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> Text:
    line = Text()
    for text, style, width, is_right in zip(texts, styles, widths, right, strict=True):
        room = " " * max(0, width - cell_len(text))
        line.append(room + text if is_right else text + room, style).append(_GAP)
    return line


def _within(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line
