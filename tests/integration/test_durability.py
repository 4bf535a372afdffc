"""A server killed under load, as `wattline bench durability` does it, only fewer times."""

from pathlib import Path

import pytest

from bench.durability import DurabilitySettings, run
from tests.postgresql_cluster import PostgresqlCluster


@pytest.mark.timeout(120)
def test_what_callers_saw_outlives_the_server_on_sqlite(tmp_path: Path) -> None:
    check(DurabilitySettings(f"sqlite:///{tmp_path / 'ledger.db'}", kills=4, most_seconds=0.5))


@pytest.mark.timeout(120)
def test_what_callers_saw_outlives_the_server_on_postgresql(postgresql: PostgresqlCluster) -> None:
    check(DurabilitySettings(postgresql.database(), kills=3, most_seconds=0.5))


def check(settings: DurabilitySettings) -> None:
    result = run(settings)
    print(result.as_json())  # noqa: T201  # what the test is for
    assert result.kills == settings.kills
    assert result.answers_seen > 0
    assert result.seen_microjoules > 0
    assert result.is_durable
