"""A table on the screen: scrolls, has a row that one is at, and keeps it while the figures change."""

from collections import Counter
from collections.abc import Iterable

from rich.text import Text
from textual.widgets import DataTable

from server.top.frame import STYLES
from server.top.grid import Cell, Grid, Row

_MARK = "▾"


class GridTable(DataTable[Text]):
    """Shows grids, one after the other."""

    def __init__(self, view: str) -> None:
        super().__init__(id=view, cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._details: dict[str, str] = {}
        self._heading: tuple[str, ...] = ()

    def show(self, grid: Grid) -> None:
        """Take the place of the grid before."""
        grid = grid.fitted(max(1, self.size.width or self.app.size.width))
        key, offset = self.current_key, self.scroll_y
        heading = tuple(f"{c.name}{_MARK if c.name == grid.sorted_by else ''}" for c in grid.columns)
        self.clear(columns=heading != self._heading)
        if heading != self._heading:
            for text, column in zip(heading, grid.columns, strict=True):
                self.add_column(Text(text, justify="right" if column.is_number else "left"))
            self._heading = heading
        rows = _by_key(grid.rows)
        self._details = {row_key: row.detail for row_key, row in rows.items()}
        for row_key, row in rows.items():
            cells = zip(row.cells, grid.columns, strict=True)
            self.add_row(*(_drawn(cell, is_number=column.is_number) for cell, column in cells), key=row_key)
        if key in self._details:
            self.move_cursor(row=list(self._details).index(key), animate=False, scroll=False)
            self.scroll_to(y=offset, animate=False, immediate=True)

    @property
    def current_key(self) -> str | None:
        """The row that one is at."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    @property
    def detail(self) -> str:
        """What there is to say of that row."""
        key = self.current_key
        return "" if key is None else self._details.get(key, "")


def _by_key(rows: Iterable[Row]) -> dict[str, Row]:
    """A table takes each key once; callers may choose an id twice, and a server may tell nonsense."""
    found: dict[str, Row] = {}
    times: Counter[str] = Counter()
    for row in rows:
        times[row.key] += 1
        found[row.key if times[row.key] == 1 else f"{row.key} {times[row.key]}"] = row
    return found


def _drawn(cell: Cell, *, is_number: bool) -> Text:
    return Text(cell.text, style=STYLES[cell.style], justify="right" if is_number else "left", no_wrap=True)
