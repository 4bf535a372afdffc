from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.ledger.backlog import Backlog
from tests.ledger_rows import ledger_row


def test_rows_leave_in_the_order_they_came() -> None:
    backlog: Backlog[int] = Backlog(10)
    for number in range(5):
        assert backlog.add(ledger_row(number), number)
    groups = [backlog.take(2) for _ in range(4)]
    assert [[entry.waiter for entry in group.entries] for group in groups] == [[0, 1], [2, 3], [4], []]
    assert not backlog


def test_rows_being_written_count_against_the_bound() -> None:
    backlog: Backlog[None] = Backlog(3)
    assert all(backlog.add(ledger_row(number), None) for number in range(3))
    backlog.take(2)
    assert not backlog.add(ledger_row(3), None)
    backlog.written()
    assert backlog.rows == 1
    assert backlog.add(ledger_row(3), None)


def test_a_charge_never_goes_before_its_row() -> None:
    backlog: Backlog[None] = Backlog(10)
    backlog.add(ledger_row(0), None)
    backlog.add(ledger_row(1), None)
    backlog.charge("row-1", 5)
    assert backlog.take(1).late_microjoules_by_row_id == {}
    assert backlog.take(1).late_microjoules_by_row_id == {"row-1": 5}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 5)),
        st.tuples(st.just("charge"), st.integers(0, 5)),
        st.tuples(st.just("write"), st.integers(1, 3)),
    )
)


@given(STEPS)
def test_every_row_has_all_its_charges_in_the_end(steps: list[tuple[str, int]]) -> None:
    """Each row is added once, before, between or after its charges."""
    backlog: Backlog[None] = Backlog(100)
    database: dict[str, int] = {}
    charged: Counter[str] = Counter()
    added: set[int] = set()

    def write(rows: int) -> None:
        group = backlog.take(rows)
        for entry in group.entries:
            database[entry.row.row_id] = 0
        for row_id, late in group.late_microjoules_by_row_id.items():
            if row_id in database:
                database[row_id] = max(database[row_id], late)
        backlog.written()

    for step, number in steps:
        if step == "add" and number not in added:
            added.add(number)
            backlog.add(ledger_row(number), None)
        elif step == "charge":
            charged[f"row-{number}"] += number + 1
            backlog.charge(f"row-{number}", number + 1)
        elif step == "write":
            write(number)
    while backlog:
        write(2)
    assert database == {f"row-{number}": charged[f"row-{number}"] for number in added}
