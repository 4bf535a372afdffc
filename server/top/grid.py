"""A table as values: columns, rows, and what can be done with them before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from rich.cells import cell_len

from server.units import UNKNOWN

Style = Literal["", "good", "warn", "bad", "faint"]
SortKey = float | str | None
_GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0 always stays; where it is too narrow for all, those of the highest rank go first."""

    name: str
    rank: int = 0
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """What is read, and what it is sorted by: None is not known, and comes last."""

    text: str
    sort_by: SortKey = None
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Row:
    """`detail` is what there is to say of it beside its cells."""

    key: str
    cells: tuple[Cell, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows have a cell for each column. `sorted_by` is a column's name, where it was sorted."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sorted_by: str | None = None

    def sorted(self, column_name: str | None) -> "Grid":
        """Numbers with the largest first, words from A to Z, what is not known last; None leaves the order."""
        names = [column.name for column in self.columns]
        if column_name not in names:
            return self
        index = names.index(column_name)
        known = [row for row in self.rows if row.cells[index].sort_by is not None]
        unknown = [row for row in self.rows if row.cells[index].sort_by is None]
        if self.columns[index].is_number:
            known.sort(key=lambda row: -_number(row.cells[index].sort_by))
        else:
            known.sort(key=lambda row: str(row.cells[index].sort_by).casefold())
        return replace(self, rows=(*known, *unknown), sorted_by=column_name)

    def column_after(self, name: str | None, steps: int) -> str | None:
        """So many columns on; None, the table's own order, stands between the last and the first."""
        names = [None, *(column.name for column in self.columns)]
        return names[(names.index(name) + steps) % len(names)] if name in names else None

    def filtered(self, needle: str) -> "Grid":
        """Rows in which a cell, or the detail, holds the words."""
        wanted = needle.casefold()
        return replace(self, rows=tuple(row for row in self.rows if _holds(row, wanted))) if wanted else self

    def fitted(self, width: int) -> "Grid":
        """Without the columns for which there is no room."""
        kept = list(range(len(self.columns)))
        while self._width(kept) > width and any(self.columns[index].rank for index in kept):
            kept.remove(max(kept, key=lambda index: (self.columns[index].rank, index)))
        columns = tuple(self.columns[index] for index in kept)
        rows = tuple(replace(row, cells=tuple(row.cells[index] for index in kept)) for row in self.rows)
        return replace(self, columns=columns, rows=rows)

    def widths(self) -> list[int]:
        """Of each column, without gaps."""
        return [self._column_width(index) for index in range(len(self.columns))]

    def _column_width(self, index: int) -> int:
        return max(len(self.columns[index].name) + 1, *(cell_len(row.cells[index].text) for row in self.rows), 0)

    def _width(self, kept: Sequence[int]) -> int:
        return sum(self._column_width(index) + _GAP for index in kept)


def number_cell(text: str, value: float | None, style: Style = "") -> Cell:
    """A quantity; faint where it is not known."""
    return Cell(text, value, "faint" if value is None else style)


def text_cell(text: str | None, style: Style = "") -> Cell:
    """A word; faint where it is not known."""
    return Cell(UNKNOWN, None, "faint") if text is None else Cell(text, text, style)


def _number(value: SortKey) -> float:
    return value if isinstance(value, int | float) else 0.0


def _holds(row: Row, wanted: str) -> bool:
    return wanted in row.detail.casefold() or any(wanted in cell.text.casefold() for cell in row.cells)
