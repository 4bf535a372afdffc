"""What the ledger promises, over every database it may be in."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, text

from server.ledger.address import ledger_address
from server.ledger.database import open_database
from server.ledger.errors import LedgerOpenError
from server.ledger.ledger import DatabaseLedger, open_ledger
from server.ledger.reader import LedgerReader
from server.ledger.row import LedgerRow
from server.ledger.settings import LedgerSettings
from server.ledger.store import DatabaseStore
from server.ledger.summary import DIMENSIONS, SummaryQuery
from server.ledger.tables import metadata
from tests.ledger_rows import NOON, aborted_row, ledger_row
from tests.postgresql_cluster import PostgresqlCluster

DAY = 86_400


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"
    cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
    return cluster.database()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DatabaseLedger]:
    ledger = open_ledger(LedgerSettings(ledger_url=url, ledger_wait_seconds=30))
    assert isinstance(ledger, DatabaseLedger)
    try:
        yield ledger
    finally:
        await ledger.close()


@pytest.fixture
async def ledger(url: str) -> AsyncIterator[DatabaseLedger]:
    async with opened(url) as ledger:
        yield ledger


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = database(url)
    yield engine
    engine.dispose()


def database(url: str, *, upgrade: bool = True) -> Engine:
    address = ledger_address(url)
    assert address is not None
    return open_database(address, upgrade=upgrade)


def reader(ledger: DatabaseLedger) -> LedgerReader:
    assert ledger.reader is not None
    return ledger.reader


async def test_a_recorded_row_is_found_as_it_was(ledger: DatabaseLedger) -> None:
    row = ledger_row(1)
    await ledger.record(row)
    assert reader(ledger).find("req-1") == row
    assert reader(ledger).find("req-2") is None
    assert ledger.status().written_rows_total == 1
    assert ledger.status().pending_rows == 0


async def test_what_is_unknown_stays_unknown(ledger: DatabaseLedger) -> None:
    row = aborted_row(1, key_id=None, worker_id=None, queue_seconds=None, first_token_seconds=None)
    await ledger.record(row)
    assert reader(ledger).find("req-1") == row


async def test_the_latest_request_of_an_id_is_found_and_of_its_tenant_only(ledger: DatabaseLedger) -> None:
    await ledger.record(ledger_row(1))
    await ledger.record(replace(ledger_row(2, tenant="sales"), request_id="req-1"))
    found = [reader(ledger).find("req-1", tenant) for tenant in (None, "research", "sales", "nobody")]
    assert [row and row.row_id for row in found] == ["row-2", "row-1", "row-2", None]


async def test_a_row_is_written_once_however_often_it_is_recorded(ledger: DatabaseLedger) -> None:
    await asyncio.gather(*(ledger.record(ledger_row(1)) for _ in range(5)))
    assert reader(ledger).summary(SummaryQuery()).total.requests == 1


async def test_many_writers_at_once_lose_nothing(ledger: DatabaseLedger) -> None:
    await asyncio.gather(*(ledger.record(ledger_row(number)) for number in range(3000)))
    total = reader(ledger).summary(SummaryQuery()).total
    assert total.requests == 3000
    assert total.energy_microjoules == 3000 * 3_000_007


@pytest.mark.parametrize("when", ["before", "with", "after"])
async def test_an_aborted_request_is_charged_whenever_its_worker_tells(ledger: DatabaseLedger, when: str) -> None:
    if when == "before":
        ledger.charge("row-1", 700_001)
        await ledger.record(ledger_row(9))
        await ledger.record(aborted_row(1))
    elif when == "with":
        coming = asyncio.create_task(ledger.record(aborted_row(1)))
        await asyncio.sleep(0)
        ledger.charge("row-1", 700_001)
        await coming
    else:
        await ledger.record(aborted_row(1))
        ledger.charge("row-1", 700_001)
    ledger.charge("row-1", 2)
    await ledger.record(ledger_row(2))
    row = reader(ledger).find("req-1")
    assert row is not None
    assert (row.energy_microjoules, row.late_microjoules, row.energy_reason) == (700_003, 700_003, None)


async def test_a_charge_adds_to_what_a_retry_has_told(ledger: DatabaseLedger) -> None:
    await ledger.record(ledger_row(1))
    ledger.charge("row-1", 5)
    await ledger.record(ledger_row(2))
    row = reader(ledger).find("req-1")
    assert row is not None
    assert (row.energy_microjoules, row.late_microjoules) == (3_000_012, 5)
    assert reader(ledger).check().problems == ()


async def test_overlong_and_impossible_text_is_made_acceptable(ledger: DatabaseLedger) -> None:
    await ledger.record(ledger_row(1, model="m\0" + "é" * 300, worker_id="\ud800", energy_reason="x" * 999))
    row = reader(ledger).find("req-1")
    assert row is not None
    assert (row.model, row.worker_id, row.energy_reason) == ("m" + "é" * 255, "?", "x" * 256)


async def test_a_row_the_database_refuses_takes_no_other_with_it(
    ledger: DatabaseLedger, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [ledger_row(number) for number in range(5)]
    rows[2] = replace(rows[2], total_seconds=float("nan"))
    await asyncio.gather(*map(ledger.record, rows))
    assert reader(ledger).summary(SummaryQuery()).total.requests == 4
    assert (ledger.status().lost_rows_total, ledger.status().pending_rows) == (1, 0)
    assert "lost 1 row" in caplog.text


async def test_closing_writes_what_is_queued(url: str) -> None:
    async with opened(url) as ledger:
        tasks = [asyncio.create_task(ledger.record(ledger_row(number))) for number in range(200)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    async with opened(url) as ledger:
        assert reader(ledger).summary(SummaryQuery()).total.requests == 200


async def test_sums_by_every_dimension_add_up_to_the_total(ledger: DatabaseLedger) -> None:
    rows = [
        ledger_row(1),
        ledger_row(2, tenant="sales", is_measured=False, energy_source="estimate", ended_unix_seconds=NOON + DAY),
        ledger_row(3, model="llama", outcome="failed", tier="flex", ended_unix_seconds=NOON + 40 * DAY),
        aborted_row(4, worker_id=None),
        aborted_row(5, outcome="refused", status=429),
    ]
    await asyncio.gather(*map(ledger.record, rows))
    for dimension in DIMENSIONS:
        summary = reader(ledger).summary(SummaryQuery((dimension,)))
        assert summary.total.energy_microjoules == 3 * 3_000_007, dimension
    total = reader(ledger).summary(SummaryQuery(("tenant", "model"))).total
    assert (total.measured_microjoules, total.estimated_microjoules) == (2 * 3_000_007, 3_000_007)
    assert (total.requests, total.completed_requests, total.failed_requests) == (5, 2, 1)
    assert (total.aborted_requests, total.refused_requests) == (1, 1)
    assert total.requests_of_unknown_energy == 1
    assert total.joules_per_output_token == pytest.approx(3.000007 / 100)
    assert total.mean_seconds == 2.5


async def test_periods_are_of_utc_and_half_open(ledger: DatabaseLedger) -> None:
    midnight = NOON + DAY / 2
    instants = {1: midnight - 0.001, 2: midnight, 3: midnight + 3599.9, 4: midnight + 31 * DAY}
    rows = [ledger_row(number, ended_unix_seconds=at) for number, at in instants.items()]
    await asyncio.gather(*map(ledger.record, rows))

    def counts(dimension: str, since: float | None = None, until: float | None = None) -> dict[str, int]:
        summary = reader(ledger).summary(SummaryQuery((dimension,), since, until))
        return {group.key[0]: group.totals.requests for group in summary.groups}

    assert counts("day") == {"2026-01-01": 1, "2026-01-02": 2, "2026-02-02": 1}
    assert counts("hour", until=NOON + 2 * DAY) == {"2026-01-01T23:00Z": 1, "2026-01-02T00:00Z": 2}
    assert counts("month") == {"2026-01": 3, "2026-02": 1}
    assert counts("week") == {"2026-W01": 3, "2026-W06": 1}
    assert counts("year", since=midnight, until=midnight + 31 * DAY) == {"2026": 2}


async def test_what_a_tenant_has_spent(ledger: DatabaseLedger) -> None:
    await ledger.record(ledger_row(1, ended_unix_seconds=NOON - DAY))
    await ledger.record(ledger_row(2))
    await ledger.record(aborted_row(3))
    await ledger.record(ledger_row(4, tenant="sales"))
    assert reader(ledger).spent_microjoules("research", NOON) == 3_000_007
    assert reader(ledger).spent_microjoules("research", 0) == 6_000_014
    assert reader(ledger).spent_microjoules("nobody", 0) == 0


async def test_export_pages_through_rows_that_ended_together(ledger: DatabaseLedger) -> None:
    rows = [ledger_row(number, ended_unix_seconds=NOON + number // 1500) for number in range(2600)]
    await asyncio.gather(*map(ledger.record, reversed(rows)))
    exported = list(reader(ledger).rows(None, None))
    assert sorted(exported, key=_number) == rows
    assert [row.ended_unix_seconds for row in exported] == sorted(row.ended_unix_seconds for row in rows)
    assert len(list(reader(ledger).rows(NOON + 1, None))) == 1100


def _number(row: LedgerRow) -> int:
    return int(row.row_id.removeprefix("row-"))


async def test_old_rows_are_deleted_and_the_rest_stays(url: str) -> None:
    async with opened(url) as ledger:
        ages = [(number, NOON - number * DAY) for number in range(20)]
        await asyncio.gather(*(ledger.record(ledger_row(n, ended_unix_seconds=at)) for n, at in ages))
    engine = database(url)
    store = DatabaseStore(engine)
    assert [store.prune(NOON - 9.5 * DAY, 7) for _ in range(3)] == [7, 3, 0]
    assert LedgerReader(engine).check().first_unix_seconds == NOON - 9 * DAY
    store.close()
    engine.dispose()


async def test_an_inspection_finds_what_does_not_add_up(ledger: DatabaseLedger) -> None:
    await ledger.record(ledger_row(1))
    found = reader(ledger).check()
    assert (found.rows, found.schema, found.problems) == (1, "0001", ())
    await ledger.record(ledger_row(2, prefill_microjoules=0))
    assert reader(ledger).check().problems == ("1 row(s) have parts that do not add up to their energy",)


# -- schema ------------------------------------------------------------------------------------------------------------


def test_migrations_make_what_queries_are_written_in(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_many_may_open_a_new_database_at_once(url: str) -> None:
    failures: list[BaseException] = []

    def open_and_close() -> None:
        try:
            database(url).dispose()
        except BaseException as error:  # noqa: BLE001  # told to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=open_and_close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    database(url, upgrade=False).dispose()


def test_a_newer_database_is_refused_in_one_line(url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(LedgerOpenError, match=r"^ledger_url = .*schema 0099 is newer than this Wattline") as caught:
        database(url)
    assert "\n" not in str(caught.value)


def test_a_reader_does_not_make_a_schema(url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerOpenError, match=r"no ledger|schema is missing"):
        database(url, upgrade=False)
    assert not (tmp_path / "state").exists()


# -- queries use the indices -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda reader: reader.find("req-1"), "ix_requests_request_id"),
        (lambda reader: reader.spent_microjoules("research", NOON), "requests_by_tenant_and_time"),
        (lambda reader: list(reader.rows(NOON, NOON + 1)), "requests_by_time"),
        (lambda reader: reader.summary(SummaryQuery(("model",), NOON, NOON + 1)), "requests_by_time"),
        (
            lambda reader: reader.summary(SummaryQuery((), NOON, None, {"tenant": "sales"})),
            "requests_by_tenant_and_time",
        ),
    ],
    ids=["find", "spent", "export", "summary", "summary-of-a-tenant"],
)
def test_questions_about_little_read_little(engine: Engine, ask: Callable[[LedgerReader], object], index: str) -> None:
    asked: list[tuple[str, Any]] = []

    def remember(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", remember)
    ask(LedgerReader(engine))
    event.remove(engine, "before_cursor_execute", remember)
    statement, parameters = asked[-1]
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        if not is_sqlite:  # an empty table is quickest read whole
            connection.exec_driver_sql("SET enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
        plan = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
    assert index in json.dumps([list(map(str, line)) for line in plan])
