"""Where keys are kept."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Protocol

from server.access.key import Ending, StoredKey


class KeyStore(Protocol):
    """Every key there ever was: ended ones stay, so that what they did can be told later."""

    def keys(self) -> Sequence[StoredKey]:
        """All of them, oldest first."""
        ...

    def version(self) -> Hashable:
        """Another value whenever `keys` answers otherwise than before; far cheaper to ask."""
        ...

    def write(self, new: StoredKey | None = None, ending: Ending | None = None) -> None:
        """Add a key, end another, or both at once or not at all.

        An ending only ever shortens a life: the earlier expiry and the earlier revocation stand.
        """
        ...


class MemoryKeyStore:
    """The keys of a server that has no database: none, unless they are put in."""

    def __init__(self) -> None:
        self._keys: dict[str, StoredKey] = {}

    def keys(self) -> Sequence[StoredKey]:
        return sorted(self._keys.values(), key=lambda key: (key.created_unix_seconds, key.key_id))

    def version(self) -> Hashable:
        return frozenset(self._keys.values())

    def write(self, new: StoredKey | None = None, ending: Ending | None = None) -> None:
        keys = dict(self._keys)
        if new is not None:
            if new.key_id in keys:
                raise ValueError(f"key {new.key_id} exists")
            keys[new.key_id] = new
        if ending is not None and ending.key_id in keys:
            keys[ending.key_id] = _ended(keys[ending.key_id], ending)
        self._keys = keys


def _ended(key: StoredKey, ending: Ending) -> StoredKey:
    def earlier(so_far: float | None) -> float:
        return ending.at_unix_seconds if so_far is None else min(so_far, ending.at_unix_seconds)

    if ending.is_revoked:
        return replace(key, revoked_unix_seconds=earlier(key.revoked_unix_seconds))
    return replace(key, expires_unix_seconds=earlier(key.expires_unix_seconds))
