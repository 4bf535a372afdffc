"""Which key a caller presents. Whatever is wrong with it, the same work is done and the same answer given."""

import secrets
from collections.abc import Iterable
from hmac import compare_digest
from typing import Final

from server.access.key import LONGEST_LOOKED_AT, PREFIX, StoredKey, sha256

_PREFIX: Final = PREFIX.encode("ascii")
_BEARER: Final = b"bearer"


class _Entry:
    """A key made ready for comparison."""

    __slots__ = ("digest", "ends_unix_seconds", "key")

    def __init__(self, key: StoredKey) -> None:
        self.key = key
        self.digest = bytes.fromhex(key.secret_sha256)
        ends = [at for at in (key.expires_unix_seconds, key.revoked_unix_seconds) if at is not None]
        self.ends_unix_seconds = min(ends, default=float("inf"))


class KeyRing:
    """The keys of the moment; another thread may put others in their place."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._has_had_keys = False
        # Compared with where no key has the id: of what hashes to it nobody knows.
        self._nobody = _Entry(StoredKey("", "", "", secrets.token_hex(32), 0.0, expires_unix_seconds=0.0))

    @property
    def is_open(self) -> bool:
        """Whether no key was ever there. Once one was, a ring that loses all its keys opens to nobody."""
        return not self._has_had_keys

    def replace(self, keys: Iterable[StoredKey]) -> None:
        """Know these keys from now on, and no others."""
        self._entries = {key.key_id.encode(): _Entry(key) for key in keys}
        self._has_had_keys = self._has_had_keys or bool(self._entries)

    def find(self, headers: Iterable[tuple[bytes, bytes]], now_unix_seconds: float) -> StoredKey | None:
        """The live key that these headers present, None if there is none.

        One path for all: a digest is taken and compared even where nothing was presented or nobody is known by the id.
        What takes longer with a longer token depends on the caller's own bytes alone.
        """
        token = _presented(headers)
        key_id, _, secret = token[len(_PREFIX) :].partition(b"-")
        entry = self._entries.get(key_id, self._nobody)
        is_right = compare_digest(sha256(secret), entry.digest)
        is_ours = compare_digest(token[: len(_PREFIX)], _PREFIX)
        is_live = now_unix_seconds < entry.ends_unix_seconds
        return entry.key if is_right & is_ours & is_live else None


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What stands in `Authorization: Bearer`, else in Anthropic's `x-api-key`, else nothing."""
    bearer = api_key = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            bearer = credentials.strip() if scheme.lower() == _BEARER else b""
        elif name == b"x-api-key":
            api_key = value.strip()
    return (bearer or api_key)[:LONGEST_LOOKED_AT]
