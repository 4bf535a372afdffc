"""A database that goes away while requests are served, and comes back."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from server.ledger.errors import LedgerUnavailableError
from server.ledger.ledger import DatabaseLedger, open_ledger
from server.ledger.settings import LedgerSettings
from server.ledger.summary import SummaryQuery
from tests.ledger_rows import ledger_row
from tests.postgresql_cluster import PostgresqlCluster


def opened(**settings: object) -> DatabaseLedger:
    ledger = open_ledger(LedgerSettings.model_validate(settings))
    assert isinstance(ledger, DatabaseLedger)
    return ledger


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not is_so():  # noqa: ASYNC110  # what is waited for happens in a thread of its own
            await asyncio.sleep(0.02)


def rows_in(ledger: DatabaseLedger) -> int:
    assert ledger.reader is not None
    return ledger.reader.summary(SummaryQuery()).total.requests


async def test_requests_are_served_while_postgresql_is_down_and_their_rows_follow(
    postgresql: PostgresqlCluster, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened(ledger_url=postgresql.database(), ledger_wait_seconds=1)
    await ledger.record(ledger_row(1))
    postgresql.stop()
    try:
        began = time.monotonic()
        await ledger.record(ledger_row(2))
        assert time.monotonic() - began < 10
        assert not ledger.is_available
        began = time.monotonic()
        await ledger.record(ledger_row(3))  # the outage is known: nobody waits again
        assert time.monotonic() - began < 1
        assert ledger.status().pending_rows == 2
        assert ledger.status().failed_writes_total >= 1
    finally:
        postgresql.start()
    await until(lambda: ledger.is_available)
    await ledger.record(ledger_row(4))
    assert rows_in(ledger) == 4
    await ledger.close()
    assert [record.levelname for record in caplog.records if record.levelno >= 30] == ["WARNING"]


async def test_a_restart_between_two_requests_goes_unnoticed(
    postgresql: PostgresqlCluster, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = opened(ledger_url=postgresql.database())
    await ledger.record(ledger_row(1))
    postgresql.stop()
    postgresql.start()
    await ledger.record(ledger_row(2))
    assert rows_in(ledger) == 2
    await ledger.close()
    assert caplog.records == []


async def test_a_locked_file_is_an_outage_that_ends_with_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = opened(ledger_url=f"sqlite:///{path}", ledger_wait_seconds=0.1, ledger_outage="refuse")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError):
        await ledger.record(ledger_row(1))
    with pytest.raises(LedgerUnavailableError):
        ledger.require_available()
    other.execute("ROLLBACK")
    other.close()
    await until(lambda: ledger.is_available)
    ledger.require_available()
    assert rows_in(ledger) == 1
    await ledger.close()


async def test_a_file_that_was_deleted_is_an_outage_until_one_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = opened(ledger_url=f"sqlite:///{path}", ledger_outage="refuse", ledger_wait_seconds=1)
    await ledger.record(ledger_row(1))
    backup = sqlite3.connect(tmp_path / "backup.db")
    with sqlite3.connect(path) as source:
        source.backup(backup)
    backup.close()
    path.unlink()
    with pytest.raises(LedgerUnavailableError):
        await ledger.record(ledger_row(2))
    assert not path.exists()
    (tmp_path / "backup.db").rename(path)
    await until(lambda: ledger.is_available)
    assert rows_in(ledger) == 2
    await ledger.close()
