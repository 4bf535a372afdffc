"""The ledger as requests see it: hand in a row, go on once it is durable."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from sqlalchemy import Engine

from server.ledger.address import default_ledger_url, ledger_address
from server.ledger.database import open_database
from server.ledger.errors import LedgerUnavailableError
from server.ledger.group_writer import GroupCommitWriter, LedgerStatus
from server.ledger.reader import LedgerReader
from server.ledger.retention import Retention
from server.ledger.row import LedgerRow
from server.ledger.settings import LedgerSettings
from server.ledger.store import DatabaseStore

_CLOSE_SECONDS: Final = 10.0
_Waiter = asyncio.Future[bool]


class Ledger(Protocol):
    """What exchanges need."""

    async def record(self, row: LedgerRow) -> None:
        """Return once the row survives the end of this process, however it comes.

        While the database is down it returns after a bounded time; the row is then in memory and written later.

        Raises:
            LedgerUnavailableError: the same, where requests are to be refused meanwhile.
        """
        ...

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        """Add energy that was told after the row; before it will do too."""
        ...

    def require_available(self) -> None:
        """Called before a request is served.

        Raises:
            LedgerUnavailableError: the database is down, and requests are to be refused meanwhile.
        """
        ...


class NoLedger:
    """Keeps nothing (`ledger_url = "none"`)."""

    reader: LedgerReader | None = None

    async def record(self, row: LedgerRow) -> None:
        """Nothing to wait for."""

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        """Nothing to add to."""

    def require_available(self) -> None:
        """It always is."""

    def status(self) -> LedgerStatus:
        return LedgerStatus(
            is_available=True, pending_rows=0, written_rows_total=0, failed_writes_total=0, lost_rows_total=0
        )

    async def close(self) -> None:
        """Nothing to flush."""


class DatabaseLedger:
    """A ledger in a database, written by a thread of its own; used from one event loop."""

    def __init__(
        self,
        engine: Engine,
        outage: Literal["serve", "refuse"],
        wait_seconds: float,
        retention: Retention | None,
        max_pending_rows: int,
    ) -> None:
        self._engine = engine
        self._refuses = outage == "refuse"
        self._wait_seconds = wait_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: GroupCommitWriter[_Waiter] = GroupCommitWriter(
            DatabaseStore(engine), self._tell_durable, retention, max_pending_rows
        )
        self._writer.start()
        self.reader: LedgerReader | None = LedgerReader(engine)

    async def record(self, row: LedgerRow) -> None:
        loop = self._loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        is_kept = self._writer.add(row, waiter)
        if is_kept and self._writer.is_available:
            timer = loop.call_later(self._wait_seconds, self._is_late, loop, waiter)
            try:
                if await waiter:
                    return
            finally:
                timer.cancel()
        self.require_available()

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        self._writer.charge(row_id, energy_microjoules)

    @property
    def engine(self) -> Engine:
        """The database, for what is kept beside the rows."""
        return self._engine

    @property
    def is_available(self) -> bool:
        """Whether rows are being written."""
        return self._writer.is_available

    def require_available(self) -> None:
        if self._refuses and not self._writer.is_available:
            raise LedgerUnavailableError("the ledger's database is down")

    def status(self) -> LedgerStatus:
        """Counts for the metrics."""
        return self._writer.status()

    async def close(self) -> None:
        """Write what is queued and let the database go."""
        await asyncio.to_thread(self._writer.close, _CLOSE_SECONDS)
        self._engine.dispose()

    def _is_late(self, loop: asyncio.AbstractEventLoop, waiter: _Waiter) -> None:
        """After what the loop has not got round to: when it was late itself, the news may be waiting in its queue."""
        loop.call_soon(self._give_up, waiter)

    def _give_up(self, waiter: _Waiter) -> None:
        if not waiter.done():
            self._writer.overdue()
            waiter.set_result(False)

    def _tell_durable(self, waiters: Sequence[_Waiter]) -> None:
        """In the writer's thread; the loop hears of a group at once, not of each row."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, waiters)


def _resolve(waiters: Sequence[_Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(True)


def open_ledger(
    settings: LedgerSettings,
    now: Callable[[], float] = time.monotonic,
    unix_now: Callable[[], float] = time.time,
) -> DatabaseLedger | NoLedger:
    """Open the ledger that an operator asked for, bringing its schema up to date.

    Raises:
        SettingError: the URL is none.
        LedgerOpenError: the database cannot be used.
    """
    address = ledger_address(settings.ledger_url or default_ledger_url(os.environ))
    if address is None:
        return NoLedger()
    engine = open_database(address, upgrade=True, synchronous=settings.ledger_synchronous)
    days = settings.ledger_retention_days
    retention = None if days is None else Retention(days, now, unix_now)
    return DatabaseLedger(
        engine, settings.ledger_outage, settings.ledger_wait_seconds, retention, settings.ledger_max_pending_rows
    )
