"""SIGKILL at random moments: every row that was told to be durable is there, once."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from server.ledger.address import ledger_address
from server.ledger.database import open_database
from server.ledger.reader import LedgerReader
from tests.integration.ledger_process import record_until_killed
from tests.ledger_rows import ledger_row

KILLS = 20
# Rows of one life are numbered from a multiple of this.
LIFE = 1_000_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_row_that_was_told_is_lost_or_doubled(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    sqlite = f"sqlite:///{tmp_path / 'ledger.db'}"
    url = sqlite if database == "sqlite" else request.getfixturevalue("postgresql").database()
    # Each life is forked from a process that has imported everything, so that killing it twenty times takes seconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.integration.ledger_process"])
    moments = random.Random(5)
    told: set[int] = set()
    for life in range(KILLS):
        ear, mouth = processes.Pipe(duplex=False)
        process = processes.Process(target=record_until_killed, args=(url, life * LIFE, mouth))
        process.start()
        mouth.close()
        told.add(int(ear.recv_bytes()))  # it has begun
        kill_at = time.monotonic() + moments.uniform(0, 0.25)
        while (left := kill_at - time.monotonic()) > 0:
            if ear.poll(left):
                told.add(int(ear.recv_bytes()))
        process.kill()
        try:
            while True:
                told.add(int(ear.recv_bytes()))
        except EOFError:
            process.join()
            process.close()
            ear.close()
    _check(url, told)


def _check(url: str, told: set[int]) -> None:
    address = ledger_address(url)
    assert address is not None
    engine = open_database(address, upgrade=False)
    reader = LedgerReader(engine)
    found = list(reader.rows(None, None))
    numbers = [int(row.row_id.removeprefix("row-")) for row in found]
    assert reader.check().problems == ()
    assert len(numbers) == len(set(numbers))
    assert told <= set(numbers)
    assert len({number // LIFE for number in told}) == KILLS
    for number, row in zip(numbers, found, strict=True):
        expected = {None, 1_000_000 + number} if row.outcome == "aborted" else {ledger_row(0).energy_microjoules}
        assert row.energy_microjoules in expected
    engine.dispose()
