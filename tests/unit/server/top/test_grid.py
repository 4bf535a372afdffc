"""Tables are sorted, filtered and narrowed before they are drawn."""

from server.top.grid import Column, Grid, Row, number_cell, text_cell

COLUMNS = (Column("name"), Column("joules", 0, is_number=True), Column("where", 2), Column("why", 1))


def grid(*rows: tuple[str, float | None]) -> Grid:
    return Grid(
        COLUMNS,
        tuple(
            Row(
                name,
                (text_cell(name), number_cell(f"{joules} J", joules), text_cell("here"), text_cell("so")),
                "detail",
            )
            for name, joules in rows
        ),
    )


def keys(shown: Grid) -> list[str]:
    return [row.key for row in shown.rows]


def test_numbers_go_down_words_go_up_and_the_unknown_comes_last() -> None:
    rows = grid(("b", 1.0), ("A", None), ("c", 30.0))
    assert keys(rows.sorted("joules")) == ["c", "b", "A"]
    assert keys(rows.sorted("name")) == ["A", "b", "c"]
    assert keys(rows.sorted(None)) == ["b", "A", "c"]
    assert keys(rows.sorted("no such column")) == ["b", "A", "c"]


def test_the_next_column_goes_round_past_the_tables_own_order() -> None:
    rows = grid(("a", 1.0))
    names: list[str | None] = [None]
    for _ in range(5):
        names.append(rows.column_after(names[-1], 1))
    assert names == [None, "name", "joules", "where", "why", None]
    assert rows.column_after(None, -1) == "why"
    assert rows.column_after("no such column", 1) is None


def test_words_are_looked_for_in_cells_and_details() -> None:
    rows = grid(("alpha", 1.0), ("beta", 2.0))
    assert keys(rows.filtered("ALP")) == ["alpha"]
    assert keys(rows.filtered("detail")) == ["alpha", "beta"]
    assert keys(rows.filtered("nothing")) == []
    assert keys(rows.filtered("")) == ["alpha", "beta"]


def test_columns_leave_in_the_order_of_their_rank() -> None:
    rows = grid(("alpha", 1.0))
    assert [column.name for column in rows.fitted(100).columns] == ["name", "joules", "where", "why"]
    assert [column.name for column in rows.fitted(25).columns] == ["name", "joules", "why"]
    assert [column.name for column in rows.fitted(1).columns] == ["name", "joules"], "some always stay"
    assert [cell.text for cell in rows.fitted(1).rows[0].cells] == ["alpha", "1.0 J"]
