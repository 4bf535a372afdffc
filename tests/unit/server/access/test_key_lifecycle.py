import math

import pytest

from server.access.key import StoredKey
from server.access.key_lifecycle import create_key, public_fields, revoke_key, rotate_key
from server.access.key_ring import KeyRing
from server.access.key_store import MemoryKeyStore
from server.errors import SettingError

NOW = 1_000_000.0
HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture
def store() -> MemoryKeyStore:
    return MemoryKeyStore()


def opens(store: MemoryKeyStore, token: str, now: float) -> bool:
    ring = KeyRing()
    ring.replace(store.keys())
    return ring.find([(b"x-api-key", token.encode())], now) is not None


def test_a_created_key_opens_until_it_expires(store: MemoryKeyStore) -> None:
    key, token = create_key(store, "team-a", "laptop", None, NOW)
    brief, brief_token = create_key(store, "team-a", "visitor", 0.5, NOW)
    assert list(store.keys()) == sorted([key, brief], key=lambda key: key.key_id)
    assert opens(store, token, NOW + 1000 * DAY)
    assert opens(store, brief_token, NOW + 0.499 * DAY)
    assert not opens(store, brief_token, NOW + 0.5 * DAY)


@pytest.mark.parametrize(
    ("tenant", "name", "days", "complaint"),
    [
        ("team a", "n", None, "tenant = 'team a': expected "),
        ("a", " ", None, "name = ' ': expected 1 to 128 printable characters"),
        ("a", "x\ny", None, r"name = 'x\ny': expected"),
        ("a", "x" * 129, None, "name = 'xxx"),
        ("a", "n", 0.0, "expires_days = 0.0: expected a number above 0"),
        ("a", "n", math.inf, "expires_days = inf: expected a number above 0"),
        ("a", "n", math.nan, "expires_days = nan: expected a number above 0"),
        ("a", "n", 1e300, "expires_days = 1e+300: expected at most 36500 days"),
    ],
)
def test_what_makes_no_key_is_refused(
    store: MemoryKeyStore, tenant: str, name: str, days: float | None, complaint: str
) -> None:
    with pytest.raises(SettingError) as error:
        create_key(store, tenant, name, days, NOW)
    assert str(error.value).startswith(complaint)
    assert "\n" not in str(error.value)
    assert not store.keys()


def test_a_rotated_key_opens_for_the_grace_beside_the_new_one(store: MemoryKeyStore) -> None:
    old, old_token = create_key(store, "team-a", "laptop", None, NOW)
    new, new_token = rotate_key(store, old.key_id, 2.0, NOW + DAY)
    assert (new.tenant, new.name, new.expires_unix_seconds) == ("team-a", "laptop", None)
    assert new.key_id != old.key_id
    assert opens(store, new_token, NOW + DAY)
    assert opens(store, old_token, NOW + DAY + 1.99 * HOUR)
    assert not opens(store, old_token, NOW + DAY + 2 * HOUR)


def test_without_grace_the_old_key_ends_at_once(store: MemoryKeyStore) -> None:
    old, token = create_key(store, "team-a", "laptop", None, NOW)
    rotate_key(store, old.key_id, 0.0, NOW + 1)
    assert not opens(store, token, NOW + 1)


def test_a_rotation_lengthens_no_life_and_hands_the_lifetime_on(store: MemoryKeyStore) -> None:
    old, token = create_key(store, "team-a", "laptop", 10.0, NOW)
    new, _ = rotate_key(store, old.key_id, 48.0, NOW + 9 * DAY)
    assert new.expires_unix_seconds == NOW + 19 * DAY
    assert not opens(store, token, NOW + 10 * DAY)


@pytest.mark.parametrize("grace", [-1.0, math.nan, math.inf, 1e308, 876_001.0])
def test_a_grace_is_a_number_of_hours(store: MemoryKeyStore, grace: float) -> None:
    key, _ = create_key(store, "a", "n", None, NOW)
    with pytest.raises(SettingError, match=r"^grace_hours = .*: expected a number of hours from 0 to 876000$"):
        rotate_key(store, key.key_id, grace, NOW)


def test_only_a_living_key_is_rotated(store: MemoryKeyStore) -> None:
    brief, _ = create_key(store, "a", "n", 1.0, NOW)
    lost, _ = create_key(store, "a", "n", None, NOW)
    revoke_key(store, lost.key_id, NOW)
    for key, state in ((brief, "expired"), (lost, "revoked")):
        with pytest.raises(SettingError) as error:
            rotate_key(store, key.key_id, 1.0, NOW + 2 * DAY)
        assert f"this key is {state}; expected one that is active" in str(error.value)
    assert len(store.keys()) == 2


def test_a_revoked_key_opens_nothing_and_stays_in_the_list(store: MemoryKeyStore) -> None:
    key, token = create_key(store, "team-a", "laptop", None, NOW)
    revoke_key(store, key.key_id, NOW + 5)
    revoke_key(store, key.key_id, NOW + 9)
    assert not opens(store, token, NOW + 5)
    (listed,) = store.keys()
    assert listed.revoked_unix_seconds == NOW + 5
    assert public_fields(listed, NOW + 5)["state"] == "revoked"


def test_an_unknown_key_is_named_and_a_whole_key_is_not_repeated(store: MemoryKeyStore) -> None:
    _, token = create_key(store, "a", "n", None, NOW)
    for given, shown in (("beef", "'beef'"), (token, "'…'")):
        with pytest.raises(SettingError) as error:
            revoke_key(store, given, NOW)
        assert str(error.value).startswith(f"key_id = {shown}: there is no such key")
        assert token not in str(error.value)


def test_what_is_shown_of_a_key_holds_nothing_of_its_secret() -> None:
    key = StoredKey("0001", "team-a", "laptop", "ab" * 32, NOW)
    assert set(public_fields(key, NOW)) == set(StoredKey.__slots__) - {"secret_sha256"} | {"state"}
