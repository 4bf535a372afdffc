from collections.abc import Iterator
from dataclasses import fields
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from server.errors import SettingError
from server.ledger.address import ledger_address
from server.ledger.database import open_database
from server.ledger.reader import LedgerReader
from server.ledger.row import LedgerRow
from server.ledger.store import DatabaseStore
from server.ledger.summary import DIMENSIONS, SummaryQuery, Totals
from server.ledger.tables import requests
from tests.ledger_rows import NOON, ledger_row

NUMBERS = count()
# Beyond 2^53, where sums in floating point would go wrong.
MICROJOULES = st.none() | st.integers(0, 2**58)
ROWS = st.builds(
    lambda **changes: ledger_row(next(NUMBERS), prefill_microjoules=None, decode_microjoules=None, **changes),
    tenant=st.sampled_from(["a", "b"]),
    model=st.sampled_from(["m", "n"]),
    outcome=st.sampled_from(["completed", "failed", "refused", "aborted"]),
    is_measured=st.sampled_from([True, False, None]),
    energy_microjoules=MICROJOULES,
    output_tokens=st.none() | st.integers(0, 2**40),
    ended_unix_seconds=st.floats(NOON, NOON + 1e8),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    address = ledger_address(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert address is not None
    engine = open_database(address, upgrade=True)
    yield engine
    engine.dispose()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, max_size=12), by=st.lists(st.sampled_from(DIMENSIONS), unique=True, max_size=3))
def test_sums_are_exact_however_they_are_told_apart(engine: Engine, rows: list[LedgerRow], by: list[str]) -> None:
    with engine.begin() as connection:
        connection.execute(delete(requests))
    store = DatabaseStore(engine)
    store.write(rows, {})
    store.close()
    total = LedgerReader(engine).summary(SummaryQuery(tuple(by))).total
    known = [row for row in rows if row.energy_microjoules is not None]
    measured = [row for row in known if row.is_measured]
    assert total.requests == len(rows)
    assert total.energy_microjoules == sum(row.energy_microjoules or 0 for row in known)
    assert total.measured_microjoules == sum(row.energy_microjoules or 0 for row in measured)
    assert total.output_tokens == sum(row.output_tokens or 0 for row in rows)
    assert total.output_tokens_of_known_energy == sum(row.output_tokens or 0 for row in known)
    unknown = [row for row in rows if row.energy_microjoules is None and row.outcome != "refused"]
    assert total.requests_of_unknown_energy == len(unknown)


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (SummaryQuery(("colour",)), "by = 'colour': expected some of tenant, model"),
        (SummaryQuery(("day", "day")), "named twice"),
        (SummaryQuery((), filters={"day": "2026-01-01"}), "day: expected"),
    ],
)
def test_what_there_is_not_is_named(engine: Engine, query: SummaryQuery, complaint: str) -> None:
    with pytest.raises(SettingError, match=complaint):
        LedgerReader(engine).summary(query)


def test_nothing_sums_to_nothing(engine: Engine) -> None:
    total = LedgerReader(engine).summary(SummaryQuery(("tenant",))).total
    assert total == Totals()
    assert {type(getattr(total, f.name)) for f in fields(total)} == {int, float}
    assert (total.joules_per_output_token, total.mean_seconds, total.mean_queue_seconds) == (None, None, None)
