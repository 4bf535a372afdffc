"""What has not been written yet. Plain state; whoever shares it between threads holds the lock."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from server.ledger.row import LedgerRow

W = TypeVar("W")
# Rows that may still be charged. The server itself stops expecting charges sooner: see `LedgerOfAborts`.
_MAX_CHARGED: int = 16_384


@dataclass(frozen=True, slots=True)
class Entry(Generic[W]):
    """A row, and who waits for it to be durable."""

    row: LedgerRow
    waiter: W


@dataclass(frozen=True, slots=True)
class Group(Generic[W]):
    """What is written together. A row's charge comes after the row: in the same group or in a later one."""

    entries: tuple[Entry[W], ...] = ()
    late_microjoules_by_row_id: Mapping[str, int] = field(default_factory=dict)


class Backlog(Generic[W]):
    """Rows in order of arrival, and charges of rows that may be written, waiting or still to come.

    Of charges the total of a row is kept, so that a group can be written again without charging twice.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._entries: deque[Entry[W]] = deque()
        self._late: OrderedDict[str, int] = OrderedDict()
        self._unwritten_late: dict[str, int] = {}
        self._taken_rows = 0

    def __bool__(self) -> bool:
        return bool(self._entries or self._unwritten_late)

    @property
    def rows(self) -> int:
        """How many rows are not known to be written."""
        return len(self._entries) + self._taken_rows

    def add(self, row: LedgerRow, waiter: W) -> bool:
        """Take a row in; False when there is no room."""
        if self.rows >= self._max_rows:
            return False
        self._entries.append(Entry(row, waiter))
        if self._late and row.row_id in self._late:  # the charge was told before the row: it found nothing to charge
            self._unwritten_late[row.row_id] = self._late[row.row_id]
        return True

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        """Add energy to a row."""
        total = self._late.get(row_id, 0) + energy_microjoules
        self._late[row_id] = self._unwritten_late[row_id] = total
        self._late.move_to_end(row_id)
        if len(self._late) > _MAX_CHARGED:
            self._late.popitem(last=False)

    def take(self, max_rows: int) -> Group[W]:
        """The next group. Its rows count as unwritten until `written`."""
        entries = tuple(self._entries.popleft() for _ in range(min(max_rows, len(self._entries))))
        self._taken_rows = len(entries)
        # While rows are left, one of them may be what a charge is for.
        late = self._unwritten_late if not self._entries else {}
        if late:
            self._unwritten_late = {}
        return Group(entries, late)

    def written(self) -> None:
        """The group taken last is durable, or given up."""
        self._taken_rows = 0
