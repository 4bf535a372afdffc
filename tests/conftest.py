"""What tests of several folders share."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.postgresql_cluster import ClusterMissingError, PostgresqlCluster, postgresql_cluster

# How long an example takes says more of the machine, and of the tests beside it, than of the code.
settings.register_profile("wattline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wattline")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlCluster]:
    """A PostgreSQL server; tests that need one are skipped, and say why, where it is not installed."""
    try:
        with postgresql_cluster() as cluster:
            yield cluster
    except ClusterMissingError as error:
        pytest.skip(str(error))
