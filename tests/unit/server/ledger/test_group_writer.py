import threading
from collections.abc import Mapping, Sequence

import pytest

from server.ledger.errors import LedgerRowsRefusedError, LedgerUnavailableError
from server.ledger.group_writer import GroupCommitWriter
from server.ledger.retention import Retention
from server.ledger.row import LedgerRow
from tests.ledger_rows import aborted_row, ledger_row


class FakeStore:
    """A database in memory that can be down, hang, or refuse a row."""

    def __init__(self) -> None:
        self.rows: dict[str, LedgerRow] = {}
        self.late: dict[str, int] = {}
        self.groups: list[int] = []
        self.failures_to_come = 0
        self.refused: set[str] = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_closed = False
        self.pruned_before: list[float] = []

    def write(self, rows: Sequence[LedgerRow], late_microjoules_by_row_id: Mapping[str, int]) -> None:
        assert self.may_go_on.wait(10)
        if self.failures_to_come:
            self.failures_to_come -= 1
            raise LedgerUnavailableError("connection refused")
        if any(row.row_id in self.refused for row in rows):
            raise LedgerRowsRefusedError("value too large")
        self.groups.append(len(rows))
        self.rows.update((row.row_id, row) for row in rows)
        self.late.update(late_microjoules_by_row_id)

    def prune(self, before_unix_seconds: float, max_rows: int) -> int:
        self.pruned_before.append(before_unix_seconds)
        return 0

    def close(self) -> None:
        self.is_closed = True


class Bench:
    """A writer with its store, and the waiters that were told."""

    def __init__(self, max_pending_rows: int = 100, retention: Retention | None = None) -> None:
        self.store = FakeStore()
        self.told: list[int] = []
        self._news = threading.Condition()
        self.writer: GroupCommitWriter[int] = GroupCommitWriter(self.store, self._tell, retention, max_pending_rows)

    def add(self, *numbers: int) -> list[bool]:
        return [self.writer.add(ledger_row(number), number) for number in numbers]

    def wait_for(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.told) >= count, 10)

    def _tell(self, waiters: Sequence[int]) -> None:
        with self._news:
            self.told += waiters
            self._news.notify_all()


def test_what_gathers_while_a_group_is_written_is_the_next_group() -> None:
    bench = Bench()
    bench.store.may_go_on.clear()
    bench.writer.start()
    bench.add(0)
    while bench.writer._backlog._taken_rows == 0:  # until the first is being written
        pass
    bench.add(1, 2, 3)
    bench.store.may_go_on.set()
    bench.wait_for(4)
    bench.writer.close(5)
    assert bench.store.groups == [1, 3]
    assert bench.told == [0, 1, 2, 3]
    assert bench.store.is_closed


def test_an_outage_is_logged_once_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench()
    bench.store.failures_to_come = 3
    bench.writer.start()
    bench.add(0, 1)
    bench.wait_for(2)
    status = bench.writer.status()
    assert (status.is_available, status.failed_writes_total, status.pending_rows) == (True, 3, 0)
    assert set(bench.store.rows) == {"row-0", "row-1"}
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    bench.writer.close(5)


def test_a_single_failure_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.store.failures_to_come = 1
    bench.writer.start()
    bench.add(0)
    bench.wait_for(1)
    bench.writer.close(5)
    assert caplog.records == []


def test_beyond_the_bound_rows_are_lost_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(max_pending_rows=2)
    assert bench.add(0, 1, 2, 3) == [True, True, False, False]
    assert bench.writer.status().lost_rows_total == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    bench.writer.start()
    bench.wait_for(2)
    bench.writer.close(5)


def test_one_bad_row_is_lost_alone(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.store.refused = {"row-1"}
    bench.add(0, 1, 2)
    bench.writer.charge("row-2", 7)
    bench.writer.start()
    bench.wait_for(3)
    bench.writer.close(5)
    assert set(bench.store.rows) == {"row-0", "row-2"}
    assert bench.store.late == {"row-2": 7}
    assert bench.writer.status().lost_rows_total == 1
    assert "value too large" in caplog.text


def test_a_row_that_waits_too_long_makes_an_outage_until_it_is_written() -> None:
    bench = Bench()
    bench.store.may_go_on.clear()
    bench.writer.start()
    bench.add(0)
    bench.writer.overdue()
    assert not bench.writer.status().is_available
    bench.store.may_go_on.set()
    bench.wait_for(1)
    assert bench.writer.status().is_available
    bench.writer.overdue()  # it had been written when this was said: nothing would ever end such an outage
    assert bench.writer.status().is_available
    bench.writer.close(5)


def test_what_cannot_be_flushed_is_lost_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.store.failures_to_come = 10**9
    bench.writer.start()
    bench.add(0, 1)
    bench.writer.close(0.0)
    assert bench.writer.status().lost_rows_total == 2
    assert bench.add(2) == [False]
    assert "lost 2 row(s)" in caplog.text


def test_closing_writes_charges_too() -> None:
    bench = Bench()
    bench.writer.add(aborted_row(0), 0)
    bench.writer.charge("row-0", 5)
    bench.writer.start()
    bench.writer.close(5)
    assert bench.store.late == {"row-0": 5}


def test_old_rows_go_between_groups() -> None:
    bench = Bench(retention=Retention(2.0, lambda: 0.0, lambda: 1_000_000.0))
    bench.writer.start()
    bench.add(0)
    bench.wait_for(1)
    bench.writer.close(5)
    assert bench.store.pruned_before == [1_000_000.0 - 2 * 86_400]
