"""What an operator does with keys. Each returns what it has done; a new key's token is never seen again."""

import math
from collections.abc import Mapping
from typing import Any

from server.access.key import Ending, StoredKey, mint
from server.access.key_store import KeyStore
from server.access.tenants import check_tenant_name
from server.errors import SettingError

SECONDS_PER_DAY = 86_400.0
SECONDS_PER_HOUR = 3_600.0
_LONGEST_NAME = 128
_MOST_DAYS = 36_500  # a century; dates much later cannot be written
_MOST_GRACE_HOURS = _MOST_DAYS * 24


def create_key(
    store: KeyStore, tenant: str, name: str, expires_days: float | None, now_unix_seconds: float
) -> tuple[StoredKey, str]:
    """A new key of a tenant, and its token.

    Raises:
        SettingError: the tenant or the name is none, or the key would never live.
    """
    check_tenant_name(tenant)
    if not (name.isprintable() and name.strip() and len(name) <= _LONGEST_NAME):
        raise SettingError(f"name = {name!r}: expected 1 to {_LONGEST_NAME} printable characters")
    expires = None
    if expires_days is not None:
        expires = now_unix_seconds + _checked_days(expires_days) * SECONDS_PER_DAY
    key, token = mint(tenant, name, now_unix_seconds, expires)
    store.write(key)
    return key, token


def rotate_key(store: KeyStore, key_id: str, grace_hours: float, now_unix_seconds: float) -> tuple[StoredKey, str]:
    """A new key like `key_id` and its token; the old one lives for the grace, and no longer than it would have.

    A key that was to expire is followed by one that lives as long as it was to live.

    Raises:
        SettingError: there is no such key, it has ended, or the grace is none.
    """
    if not 0 <= grace_hours <= _MOST_GRACE_HOURS:  # written so that NaN fails too
        raise SettingError(f"grace_hours = {grace_hours}: expected a number of hours from 0 to {_MOST_GRACE_HOURS}")
    old = find_key(store, key_id)
    state = old.state(now_unix_seconds)
    if state != "active":
        raise SettingError(f"key_id = {key_id!r}: this key is {state}; expected one that is active")
    expires = None
    if old.expires_unix_seconds is not None:
        expires = now_unix_seconds + old.expires_unix_seconds - old.created_unix_seconds
    key, token = mint(old.tenant, old.name, now_unix_seconds, expires)
    store.write(key, Ending(key_id, now_unix_seconds + grace_hours * SECONDS_PER_HOUR, is_revoked=False))
    return key, token


def revoke_key(store: KeyStore, key_id: str, now_unix_seconds: float) -> StoredKey:
    """The key as it was before; it is refused from now on. Revoking one that has ended changes nothing that matters.

    Raises:
        SettingError: there is no such key.
    """
    key = find_key(store, key_id)
    store.write(ending=Ending(key_id, now_unix_seconds, is_revoked=True))
    return key


def find_key(store: KeyStore, key_id: str) -> StoredKey:
    """The key of that id.

    Raises:
        SettingError: there is none.
    """
    for key in store.keys():  # noqa: SIM118  # no mapping
        if key.key_id == key_id:
            return key
    raise SettingError(f"key_id = {_shown(key_id)!r}: there is no such key; `wattline keys list` shows those there are")


def public_fields(key: StoredKey, now_unix_seconds: float) -> Mapping[str, Any]:
    """All that may be shown of a key."""
    return {
        "key_id": key.key_id,
        "tenant": key.tenant,
        "name": key.name,
        "state": key.state(now_unix_seconds),
        "created_unix_seconds": key.created_unix_seconds,
        "expires_unix_seconds": key.expires_unix_seconds,
        "revoked_unix_seconds": key.revoked_unix_seconds,
    }


def _checked_days(days: float) -> float:
    if not (math.isfinite(days) and days > 0):
        raise SettingError(f"expires_days = {days}: expected a number above 0")
    if days > _MOST_DAYS:
        raise SettingError(f"expires_days = {days}: expected at most {_MOST_DAYS} days, or none for ever")
    return days


def _shown(key_id: str) -> str:
    """Who pastes a whole key here shall not find it in his terminal's log again."""
    return key_id if len(key_id) <= len("0" * 32) else "…"
