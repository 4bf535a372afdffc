import gc
import sys
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from server.access.key import PREFIX, StoredKey, mint
from server.access.key_ring import KeyRing

NOW = 1_000_000.0
STORED, TOKEN = mint("team-a", "laptop", NOW - 10)
OTHER, OTHER_TOKEN = mint("team-b", "server", NOW - 10)
EXPIRED, EXPIRED_TOKEN = mint("team-a", "old", NOW - 10, expires_unix_seconds=NOW)
_REVOKED, REVOKED_TOKEN = mint("team-a", "lost", NOW - 10)
REVOKED = replace(_REVOKED, revoked_unix_seconds=NOW - 1)


def secret_of(token: str) -> str:
    return token.removeprefix(PREFIX).partition("-")[2]


# Whatever could be wrong with a key.
WRONG = {
    "empty": "",
    "malformed": "hello",
    "of another service": "sk-" + "a" * 48,
    "prefix alone": PREFIX,
    "id alone": f"{PREFIX}{STORED.key_id}",
    "no secret": f"{PREFIX}{STORED.key_id}-",
    "unknown id": f"{PREFIX}{'0' * 12}-{secret_of(TOKEN)}",
    "no id": f"{PREFIX}-{secret_of(TOKEN)}",
    "wrong secret": TOKEN[:-1] + ("a" if TOKEN[-1] != "a" else "b"),
    "secret of another": f"{PREFIX}{STORED.key_id}-{secret_of(OTHER_TOKEN)}",
    "too long": TOKEN + "x" * 1000,
    "another prefix": TOKEN.replace("wattline", "attlines"),
    "expired": EXPIRED_TOKEN,
    "revoked": REVOKED_TOKEN,
    "digest itself": f"{PREFIX}{STORED.key_id}-{STORED.secret_sha256}",
}


@pytest.fixture
def ring() -> KeyRing:
    ring = KeyRing()
    ring.replace([STORED, OTHER, EXPIRED, REVOKED])
    return ring


def bearer(token: str, scheme: str = "Bearer") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"a"), (b"authorization", f"{scheme} {token}".encode("latin-1"))]


def test_a_key_is_68_characters_of_which_the_secret_is_43() -> None:
    assert TOKEN.startswith(f"sk-wattline-{STORED.key_id}-")
    assert (len(TOKEN), len(secret_of(TOKEN))) == (68, 43)
    assert secret_of(TOKEN) not in repr(STORED)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_a_live_key_is_found_as_a_bearer_token(ring: KeyRing, scheme: str) -> None:
    assert ring.find(bearer(TOKEN, scheme), NOW) == STORED
    assert ring.find(bearer(OTHER_TOKEN, scheme), NOW) == OTHER


def test_a_live_key_is_found_in_anthropics_header(ring: KeyRing) -> None:
    assert ring.find([(b"x-api-key", TOKEN.encode())], NOW) == STORED
    assert ring.find([(b"authorization", b"Basic abc"), (b"x-api-key", TOKEN.encode())], NOW) == STORED


def test_of_two_the_bearer_token_counts(ring: KeyRing) -> None:
    assert ring.find([*bearer("wrong"), (b"x-api-key", TOKEN.encode())], NOW) is None
    assert ring.find([(b"x-api-key", b"wrong"), *bearer(TOKEN)], NOW) == STORED


@pytest.mark.parametrize("kind", WRONG)
def test_whatever_is_wrong_finds_nobody(ring: KeyRing, kind: str) -> None:
    assert ring.find(bearer(WRONG[kind]), NOW) is None
    assert ring.find([(b"x-api-key", WRONG[kind].encode())], NOW) is None


@pytest.mark.parametrize(
    "header",
    [b"Basic " + TOKEN.encode(), TOKEN.encode(), b"Bearer", b"", b"\xff\xfe \xff"],
    ids=["another scheme", "no scheme", "no token", "nothing", "no text"],
)
def test_what_is_no_bearer_token_finds_nobody(ring: KeyRing, header: bytes) -> None:
    assert ring.find([(b"authorization", header)], NOW) is None
    assert ring.find([], NOW) is None


def test_a_key_lives_until_the_instant_it_ends(ring: KeyRing) -> None:
    assert ring.find(bearer(EXPIRED_TOKEN), NOW - 0.001) == EXPIRED
    assert ring.find(bearer(REVOKED_TOKEN), NOW - 1.001) == REVOKED
    assert [EXPIRED.state(NOW), REVOKED.state(NOW), STORED.state(NOW)] == ["expired", "revoked", "active"]


def test_a_ring_that_loses_its_keys_opens_to_nobody() -> None:
    ring = KeyRing()
    was_open = [ring.is_open]
    for keys in ([], [STORED], []):
        ring.replace(keys)
        was_open.append(ring.is_open)
    assert was_open == [True, True, False, False]
    assert ring.find(bearer(TOKEN), NOW) is None


def work_done(ring: KeyRing, headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Every call after the presented key is read: name by name, ours and the interpreter's.

    The garbage collector rests meanwhile: it runs whenever it likes, with whatever callbacks others gave it.
    """
    calls: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_name == "_presented" or event not in {"call", "c_call"}:
            return
        calls.append((frame.f_code.co_name, argument.__name__ if event == "c_call" else "call"))

    gc.disable()
    sys.setprofile(note)
    try:
        ring.find(headers, NOW)
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def test_the_same_work_is_done_whatever_is_wrong_and_when_nothing_is(ring: KeyRing) -> None:
    right = work_done(ring, bearer(TOKEN))
    assert right.count(("find", "compare_digest")) == 2
    assert ("sha256", "openssl_sha256") in right
    assert work_done(ring, []) == right
    for kind, token in WRONG.items():
        assert work_done(ring, bearer(token)) == right, kind


def test_a_stored_key_says_nothing_of_its_secret() -> None:
    assert StoredKey.__slots__ == (
        "key_id",
        "tenant",
        "name",
        "secret_sha256",
        "created_unix_seconds",
        "expires_unix_seconds",
        "revoked_unix_seconds",
    )
