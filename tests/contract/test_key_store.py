"""What every store of keys does, the one without a database included."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from server.access.database_keys import DatabaseKeyStore
from server.access.key import Ending, StoredKey
from server.access.key_store import KeyStore, MemoryKeyStore
from server.ledger.address import ledger_address
from server.ledger.database import open_database
from tests.postgresql_cluster import PostgresqlCluster

FIRST = StoredKey("0001", "team-a", "laptop", "ab" * 32, 100.0)
SECOND = StoredKey("0002", "team-b", "server", "cd" * 32, 200.0, expires_unix_seconds=900.0)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        cluster: PostgresqlCluster = request.getfixturevalue("postgresql")
        url = cluster.database()
    address = ledger_address(url)
    assert address is not None
    engine = open_database(address, upgrade=True)
    yield DatabaseKeyStore(engine)
    engine.dispose()


def test_keys_come_back_as_they_were_put_in_oldest_first(store: KeyStore) -> None:
    assert list(store.keys()) == []
    store.write(SECOND)
    store.write(FIRST)
    assert list(store.keys()) == [FIRST, SECOND]


def test_two_keys_never_have_one_id(store: KeyStore) -> None:
    store.write(FIRST)
    with pytest.raises((IntegrityError, ValueError)):
        store.write(replace(SECOND, key_id=FIRST.key_id))
    assert list(store.keys()) == [FIRST]


def test_a_key_ends_and_stays(store: KeyStore) -> None:
    store.write(FIRST)
    store.write(SECOND)
    store.write(ending=Ending(FIRST.key_id, 300.0, is_revoked=True))
    store.write(ending=Ending(SECOND.key_id, 400.0, is_revoked=False))
    assert list(store.keys()) == [
        replace(FIRST, revoked_unix_seconds=300.0),
        replace(SECOND, expires_unix_seconds=400.0),
    ]


@pytest.mark.parametrize("is_revoked", [True, False])
def test_the_earlier_end_stands(store: KeyStore, *, is_revoked: bool) -> None:
    store.write(FIRST)
    for at in (500.0, 400.0, 600.0):
        store.write(ending=Ending(FIRST.key_id, at, is_revoked=is_revoked))
    (key,) = store.keys()
    assert (key.revoked_unix_seconds if is_revoked else key.expires_unix_seconds) == 400.0


def test_one_key_takes_the_place_of_another_or_nothing_happens(store: KeyStore) -> None:
    store.write(FIRST)
    store.write(SECOND, Ending(FIRST.key_id, 300.0, is_revoked=False))
    assert list(store.keys()) == [replace(FIRST, expires_unix_seconds=300.0), SECOND]
    with pytest.raises((IntegrityError, ValueError)):
        store.write(SECOND, Ending(FIRST.key_id, 200.0, is_revoked=True))
    assert list(store.keys()) == [replace(FIRST, expires_unix_seconds=300.0), SECOND]


def test_ending_an_unknown_key_changes_nothing(store: KeyStore) -> None:
    store.write(FIRST)
    version = store.version()
    store.write(ending=Ending("nobody", 1.0, is_revoked=True))
    assert list(store.keys()) == [FIRST]
    assert store.version() == version


def test_the_version_changes_with_every_change_and_with_nothing_else(store: KeyStore) -> None:
    seen = [store.version()]
    for new, ending in (
        (FIRST, None),
        (SECOND, None),
        (None, Ending(FIRST.key_id, 300.0, is_revoked=True)),
        (None, Ending(SECOND.key_id, 300.0, is_revoked=True)),
        (None, Ending(SECOND.key_id, 350.0, is_revoked=False)),
        (None, Ending(SECOND.key_id, 340.0, is_revoked=False)),
        (replace(FIRST, key_id="0003"), Ending(SECOND.key_id, 330.0, is_revoked=False)),
    ):
        store.write(new, ending)
        assert store.version() == store.version()
        seen.append(store.version())
    assert len(set(seen)) == len(seen)
