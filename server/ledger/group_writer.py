"""The thread that makes rows durable, in groups: whatever gathered while the last group was written is the next one.

So an idle server commits each row at once and a busy one in groups, with no timer in between. While the database is
down rows are kept, up to a bound, and written when it is back.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from server.ledger.backlog import Backlog, Entry, Group
from server.ledger.errors import LedgerRowsRefusedError, LedgerUnavailableError
from server.ledger.retention import Retention
from server.ledger.row import LedgerRow
from server.ledger.store import RowStore

logger = logging.getLogger("wattline.ledger")
W = TypeVar("W")

# Bounds the size of one statement; a thousand rows take some 20 ms.
MAX_GROUP_ROWS: Final = 1000
# The first retry comes at once, with a fresh connection: the database may only have been restarted.
_RETRY_SECONDS: Final = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """How the writing goes; `pending_rows` are in memory only."""

    is_available: bool
    pending_rows: int
    written_rows_total: int
    failed_writes_total: int
    lost_rows_total: int


class GroupCommitWriter(Generic[W]):
    """Writes to `store` and closes it in the end. `on_durable` is called in its thread with the waiters of a group."""

    def __init__(
        self,
        store: RowStore,
        on_durable: Callable[[Sequence[W]], None],
        retention: Retention | None,
        max_pending_rows: int,
    ) -> None:
        self._store = store
        self._on_durable = on_durable
        self._retention = retention
        self._backlog: Backlog[W] = Backlog(max_pending_rows)
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._is_closing = threading.Event()
        self._gives_up = threading.Event()
        self._outage: str | None = None
        self._written_rows = self._failed_writes = self._lost_rows = self._lost_in_outage = 0
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def add(self, row: LedgerRow, waiter: W) -> bool:
        """Queue a row; False when it is lost, because too many wait already or the writer is closed."""
        with self._lock:
            if not self._is_closing.is_set() and self._backlog.add(row, waiter):
                self._wake.notify()
                return True
        self._lose(1, "too many rows wait for the database")
        return False

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        """Queue energy to be added to a row, be it written, waiting or still to come."""
        with self._lock:
            self._backlog.charge(row_id, energy_microjoules)
            self._wake.notify()

    def overdue(self) -> None:
        """A row has waited too long: whatever the database is doing, it counts as down until it has written again."""
        if self._backlog.rows:  # else it was written just now
            self._begin_outage("it does not answer in time")

    def status(self) -> LedgerStatus:
        with self._lock:
            return LedgerStatus(
                is_available=self._outage is None,
                pending_rows=self._backlog.rows,
                written_rows_total=self._written_rows,
                failed_writes_total=self._failed_writes,
                lost_rows_total=self._lost_rows,
            )

    @property
    def is_available(self) -> bool:
        """Whether the last write succeeded, in time."""
        return self._outage is None

    def close(self, timeout_seconds: float) -> None:
        """Write what is queued, for as long as that; what then remains is lost, and said to be."""
        with self._lock:
            self._is_closing.set()
            self._wake.notify()
        self._thread.join(timeout_seconds)
        self._gives_up.set()
        self._thread.join(1.0)  # one that hangs in the driver is left behind: it is a daemon
        with self._lock:
            left = self._backlog.rows
        if left:
            self._lose(left, "the server ended while the database was down")

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            pause = None if self._retention is None else self._retention.seconds_to_next()
            with self._lock:
                if not self._backlog and not self._is_closing.is_set():
                    self._wake.wait(pause)
                group = self._backlog.take(MAX_GROUP_ROWS)
            if group.entries or group.late_microjoules_by_row_id:
                self._write(group)
            elif self._is_closing.is_set():
                break
            if self._gives_up.is_set():
                break
            if self._retention is not None:
                self._retention.prune_if_due(self._store)
        self._store.close()

    def _write(self, group: Group[W]) -> None:
        rows = [entry.row for entry in group.entries]
        failures = 0
        while True:
            try:
                self._store.write(rows, group.late_microjoules_by_row_id)
            except LedgerUnavailableError as error:
                failures += 1
                self._failed(str(error), failures)
                if self._gives_up.wait(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1]):
                    return
            except LedgerRowsRefusedError as error:
                self._write_one_by_one(group, error)
                return
            else:
                self._finish(group.entries, written_rows=len(rows))
                return

    def _write_one_by_one(self, group: Group[W], error: LedgerRowsRefusedError) -> None:
        """One bad row must not take the others with it, nor stop all that follow."""
        singles = [Group((entry,)) for entry in group.entries]
        singles += [Group((), {row_id: late}) for row_id, late in group.late_microjoules_by_row_id.items()]
        if len(singles) > 1:
            for single in singles:
                self._write(single)
            return
        self._lose(1, f"the database refuses it: {error}")
        self._finish(group.entries, written_rows=0)

    def _finish(self, entries: Sequence[Entry[W]], *, written_rows: int) -> None:
        """The database has answered, so it is up; nobody need wait for these any longer."""
        with self._lock:
            self._backlog.written()
            self._written_rows += written_rows
            ended, self._outage = self._outage, None
            lost, self._lost_in_outage = self._lost_in_outage, 0
        if ended is not None:
            logger.info("the ledger's database is back; %d row(s) were lost", lost)
        if entries:
            self._on_durable([entry.waiter for entry in entries])

    def _failed(self, reason: str, failures: int) -> None:
        with self._lock:
            self._failed_writes += 1
        if failures > 1:
            self._begin_outage(reason)

    def _begin_outage(self, reason: str) -> None:
        with self._lock:
            is_new = self._outage is None
            self._outage = reason
        if is_new:
            logger.warning("the ledger's database is down, rows are kept in memory until it is back: %s", reason)

    def _lose(self, rows: int, reason: str) -> None:
        with self._lock:
            is_first = self._lost_in_outage == 0
            self._lost_in_outage += rows
            self._lost_rows += rows
        if is_first:
            logger.error("the ledger has lost %d row(s), and may lose more: %s", rows, reason)
