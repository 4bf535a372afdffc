from collections.abc import Mapping, Sequence

import pytest

from server.ledger.errors import LedgerUnavailableError
from server.ledger.retention import BATCH_ROWS, Retention
from server.ledger.row import LedgerRow


class FakeStore:
    def __init__(self, old_rows: int) -> None:
        self.old_rows = old_rows
        self.is_down = False

    def write(self, rows: Sequence[LedgerRow], late_microjoules_by_row_id: Mapping[str, int]) -> None:
        raise AssertionError

    def prune(self, before_unix_seconds: float, max_rows: int) -> int:
        if self.is_down:
            raise LedgerUnavailableError("down")
        assert before_unix_seconds == 10 * 86_400 - 86_400
        deleted = min(max_rows, self.old_rows)
        self.old_rows -= deleted
        return deleted

    def close(self) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_batch_follows_batch_until_nothing_is_old_and_then_an_hour_passes() -> None:
    clock, store = Clock(), FakeStore(2 * BATCH_ROWS + 1)
    retention = Retention(1.0, clock, lambda: 10 * 86_400.0)
    pauses = []
    for _ in range(3):
        clock.seconds += retention.seconds_to_next()
        retention.prune_if_due(store)
        retention.prune_if_due(store)  # too soon: nothing happens
        pauses.append(retention.seconds_to_next())
    assert store.old_rows == 0
    assert pauses == pytest.approx([0.1, 0.1, 3600.0])


def test_a_database_that_is_down_is_asked_again_later() -> None:
    clock, store = Clock(), FakeStore(1)
    store.is_down = True
    retention = Retention(1.0, clock, lambda: 10 * 86_400.0)
    retention.prune_if_due(store)
    assert retention.seconds_to_next() == 3600.0
