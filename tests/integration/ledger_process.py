"""A process that records rows until it is killed, and tells each id once the ledger says it is durable."""

import asyncio
import itertools
from multiprocessing.connection import Connection

from server.ledger.ledger import DatabaseLedger, open_ledger
from server.ledger.settings import LedgerSettings
from tests.ledger_rows import aborted_row, ledger_row

WRITERS = 16
# One row in this many is an aborted request's, and is charged afterwards.
ABORTED_EVERY = 10


def record_until_killed(url: str, first_number: int, told: Connection) -> None:
    asyncio.run(_record(url, itertools.count(first_number), told))


async def _record(url: str, numbers: "itertools.count[int]", told: Connection) -> None:
    ledger = open_ledger(LedgerSettings(ledger_url=url, ledger_wait_seconds=60))
    assert isinstance(ledger, DatabaseLedger)

    async def write() -> None:
        for number in numbers:
            is_aborted = number % ABORTED_EVERY == 0
            await ledger.record(aborted_row(number) if is_aborted else ledger_row(number))
            told.send_bytes(str(number).encode())
            if is_aborted:
                ledger.charge(f"row-{number}", 1_000_000 + number)

    await asyncio.gather(*(write() for _ in range(WRITERS)))
