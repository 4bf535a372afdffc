"""Bearer keys: what one looks like, and what is kept of it."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "sk-wattline-"
_KEY_ID_BYTES: Final = 6  # told apart among millions; a key id is no secret
_SECRET_BYTES: Final = 32  # beyond any guessing, so that one fast hash is as good as a slow one
# Of what claims to be a key no more is looked at; a real one has 68 characters.
LONGEST_LOOKED_AT: Final = 128


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is stored. `secret_sha256` is in hexadecimal; instants are seconds of the Unix epoch."""

    key_id: str
    tenant: str
    name: str
    secret_sha256: str
    created_unix_seconds: float
    expires_unix_seconds: float | None = None
    revoked_unix_seconds: float | None = None

    def state(self, now_unix_seconds: float) -> str:
        """One of active, expired, revoked."""
        if self.revoked_unix_seconds is not None and self.revoked_unix_seconds <= now_unix_seconds:
            return "revoked"
        if self.expires_unix_seconds is not None and self.expires_unix_seconds <= now_unix_seconds:
            return "expired"
        return "active"


@dataclass(frozen=True, slots=True)
class Ending:
    """That a key ends: by expiring at an instant, or by having been revoked at one."""

    key_id: str
    at_unix_seconds: float
    is_revoked: bool


def mint(
    tenant: str, name: str, created_unix_seconds: float, expires_unix_seconds: float | None = None
) -> tuple[StoredKey, str]:
    """A new key and the bearer token for it, which is known only here and now."""
    key_id, secret = secrets.token_hex(_KEY_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    stored = StoredKey(
        key_id, tenant, name, sha256(secret.encode("ascii")).hex(), created_unix_seconds, expires_unix_seconds
    )
    return stored, f"{PREFIX}{key_id}-{secret}"


def sha256(secret: bytes) -> bytes:
    """What is compared in place of the secret."""
    return hashlib.sha256(secret).digest()
