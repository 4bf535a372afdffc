"""What tests of several folders share."""

from collections.abc import Iterator

import pytest

from tests.postgresql_cluster import ClusterMissingError, PostgresqlCluster, postgresql_cluster


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlCluster]:
    """A PostgreSQL server; tests that need one are skipped, and say why, where it is not installed."""
    try:
        with postgresql_cluster() as cluster:
            yield cluster
    except ClusterMissingError as error:
        pytest.skip(str(error))
