"""Hostile conversations as bytes: what is sent, in which pieces, how slowly, and how the caller leaves.

Made from a random generator, so that the same seed makes the same attack. Nothing here opens a connection.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

End = Literal["wait", "close", "reset", "half_close"]

_CHAT: Final = "/v1/chat/completions"
_PATHS: Final = (_CHAT, "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/fake", "/health", "/metrics")
_METHODS: Final = (
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "QUERY",
    "get",
    "",
)
_CONTROL: Final = bytes(range(32)) + b"\x7f"
_ENDS: Final[tuple[End, ...]] = ("wait", "close", "reset", "half_close")
_SLOW_SECONDS: Final = 0.03


@dataclass(frozen=True, slots=True)
class Attack:
    """One connection's life. `is_whole` where what is sent must be answered, or the connection be closed, at once."""

    kind: str
    packets: tuple[bytes, ...]
    end: End = "wait"
    pause_seconds: float = 0.0
    is_whole: bool = True


def make_attack(seed: str, headers: tuple[str, ...] = ()) -> Attack:
    """The attack of that seed; `headers` are lines that well-formed requests carry, an authorization perhaps."""
    chance = random.Random(seed)
    kind = chance.choice(list(KINDS))
    return KINDS[kind](chance, headers)


def _head(method: str, path: str, lines: tuple[str, ...]) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1")


def _post(body: bytes, headers: tuple[str, ...], path: str = _CHAT) -> bytes:
    lines = (*headers, "Content-Type: application/json", f"Content-Length: {len(body)}")
    return _head("POST", path, lines) + body


def _chat(chance: random.Random, **more: Any) -> bytes:  # noqa: ANN401  # any JSON
    content = "x" * chance.randint(0, 200)
    return json.dumps({"model": "fake", "messages": [{"role": "user", "content": content}], **more}).encode()


def _cut(chance: random.Random, data: bytes, pieces: int) -> tuple[bytes, ...]:
    places = sorted(chance.randint(0, len(data)) for _ in range(pieces - 1))
    return tuple(data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end)


def _truncated_body(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    whole = _post(_chat(chance), headers)
    sent = whole[: chance.randint(1, len(whole) - 1)]
    return Attack("truncated_body", _cut(chance, sent, 2), chance.choice(_ENDS), is_whole=False)


def _slow_sender(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    whole = _post(_chat(chance), headers)
    sent = whole[: chance.randint(1, len(whole))]
    pieces = _cut(chance, sent, chance.randint(5, 20))
    return Attack("slow_sender", pieces, chance.choice(_ENDS), _SLOW_SECONDS, is_whole=False)


def _bad_chunking(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    body = _chat(chance)
    size = b"%x" % len(body)
    chunk = chance.choice(
        [
            b"xyz\r\n" + body,
            b"-5\r\n" + body,
            b"f" * 40 + b"\r\n" + body,
            size + body + b"\r\n0\r\n\r\n",
            size + b"\r\n" + body + b"0\r\n\r\n",
            size + b";" + b"e" * 100_000 + b"\r\n" + body + b"\r\n0\r\n\r\n",
            size + b"\n" + body + b"\n0\n\n",
            size + b"\r\n" + body + b"\r\n0\r\nContent-Length: 5\r\nX: y\r\n\r\n",
            size + b"\r\n" + body + b"\r\n0\r\n" + b"T: x\r\n" * 5_000 + b"\r\n",
            b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n",
            size + b"\r\n" + body + b"\r\n",
            b"0x" + size + b"\r\n" + body + b"\r\n0\r\n\r\n",
            b"\r\n\r\n",
        ]
    )
    head = _head("POST", _CHAT, (*headers, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    return Attack("bad_chunking", _cut(chance, head + chunk, 3), chance.choice(_ENDS), is_whole=False)


def _header_flood(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    count = chance.choice([100, 300, 5_000, 20_000])
    name = chance.choice(["a", "X-Flood-", "Cookie", "x-request-id", "content-type", "accept"])
    lines = tuple(f"{name}{index if name.endswith('-') else ''}: {index}" for index in range(count))
    body = _chat(chance)
    whole = _head("POST", _CHAT, (*headers, *lines, f"Content-Length: {len(body)}")) + body
    return Attack("header_flood", _cut(chance, whole, chance.choice([1, 3])))


def _giant_header(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    size = chance.choice([1_000, 8_000, 70_000, 300_000])
    line = chance.choice([f"{'n' * size}: v", f"x: {'v' * size}", f"x:{' ' * size}v", f"authorization: {'b' * size}"])
    path = chance.choice([_CHAT, "/v1/models/" + "p" * size, f"{_CHAT}?{'q' * size}"])
    body = _chat(chance)
    whole = _head("POST", path, (*headers, line, f"Content-Length: {len(body)}")) + body
    return Attack("giant_header", _cut(chance, whole, chance.choice([1, 3])))


def _pipelined(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    several = [
        lambda: _post(_chat(chance, max_tokens=3), headers),
        lambda: _post(_chat(chance, stream=True, max_tokens=5), headers),
        lambda: _head("GET", "/health", headers),
        lambda: _head("GET", "/v1/models", headers),
        lambda: _post(b"{", headers),
        lambda: _head("DELETE", "/v1/models", headers),
    ]
    sent = b"".join(chance.choice(several)() for _ in range(chance.choice([2, 5, 20, 200])))
    if chance.random() < 0.5:
        sent += chance.choice([b"garbage\r\n\r\n", b"\x00" * 50, b"GET / HTTP/1.1\r\nX"])
    return Attack("pipelined", _cut(chance, sent, chance.choice([1, 2, 4])), chance.choice(_ENDS), is_whole=False)


def _control_bytes(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    whole = bytearray(_post(_chat(chance), headers))
    for _ in range(chance.randint(1, 5)):
        whole.insert(chance.randint(0, len(whole)), chance.choice(_CONTROL))
    return Attack("control_bytes", (bytes(whole),), chance.choice(_ENDS), is_whole=False)


def _bad_text(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    """What is no UTF-8, in a body, a path, a query or a header."""
    bad = chance.choice([b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"])
    target = chance.choice(
        [b"/v1/" + bad, b"/v1/%ff%fe%00", b"/v1/models/%ed%a0%80", b"/v1/x?" + bad, b"/%00", b"/" + bad]
    )
    good = chance.choice([_CHAT.encode(), target])
    body = chance.choice(
        [_chat(chance), b'{"model": "' + bad + b'"}', b'{"model": "\\ud800"}', b'{"prompt": "\\u0000"}', bad]
    )
    lines = "".join(f"{line}\r\n" for line in headers).encode("latin-1")
    lines += chance.choice(
        [b"", b"x-request-id: " + bad + b"\r\n", b"x: " + bad + b"\r\n", b"x-deadline-seconds: 1e999\r\n"]
    )
    head = b"POST " + good + b" HTTP/1.1\r\nHost: x\r\n" + lines + b"Content-Length: %d\r\n\r\n" % len(body)
    return Attack("bad_text", (head + body,))


def _framing(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    """Lengths that contradict each other, or are none: what requests are smuggled with."""
    body = _chat(chance)
    size = str(len(body))
    lines = chance.choice(
        [
            (f"Content-Length: {size}", "Content-Length: 5"),
            (f"Content-Length: {size}", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", f"Content-Length: {size}"),
            ("Transfer-Encoding: chunked, identity",),
            ("Transfer-Encoding: xchunked",),
            ("Transfer-Encoding : chunked",),
            ("Transfer-Encoding: gzip, chunked",),
            ("Content-Length: -1",),
            (f"Content-Length: +{size}",),
            (f"Content-Length: {size}, {size}",),
            ("Content-Length: 99999999999999999999999999",),
            ("Content-Length: 999999999999",),
            ("Content-Length: 0x10",),
            ("Content-Length: ",),
            (f"Content-Length: {size}", "Expect: 100-continue"),
            (f"Content-Length: {size}", "Connection: upgrade", "Upgrade: websocket"),
            (f"Content-Length: {size}", "Connection: close, x-request-id, content-type"),
            (f"Content-Length: {size}", "Content-Encoding: gzip"),
            (),
        ]
    )
    smuggled = chance.choice([b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"0\r\n\r\n"])
    whole = _head("POST", _CHAT, (*headers, "Content-Type: application/json", *lines)) + body + smuggled
    return Attack("framing", _cut(chance, whole, chance.choice([1, 2])), chance.choice(_ENDS), is_whole=False)


def _request_line(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    line = chance.choice(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
            b"GET\r\n\r\n",
            b"\r\n" * 1_000,
            chance.randbytes(chance.randint(1, 2_000)),
            b"GET /health HTTP/0.9\r\n\r\n",
            b"GET /health HTTP/9.9\r\n\r\n",
            b"GET http://elsewhere/health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET //health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /v1/../health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /health HTTP/1.0\r\n\r\n",
            _head(chance.choice(_METHODS), chance.choice(_PATHS), headers),
        ]
    )
    return Attack("request_line", (line,), chance.choice(_ENDS), is_whole=False)


def _mutated(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    whole = bytearray(_post(_chat(chance, stream=chance.random() < 0.3, max_tokens=3), headers))
    for _ in range(chance.randint(1, 10)):
        at = chance.randrange(len(whole))
        match chance.randrange(4):
            case 0:
                whole[at] ^= 1 << chance.randrange(8)
            case 1:
                del whole[at : at + chance.randint(1, 10)]
            case 2:
                whole[at:at] = chance.randbytes(chance.randint(1, 10))
            case _:
                whole[at:at] = whole[at : at + chance.randint(1, 50)]
        whole = whole or bytearray(b"x")
    return Attack("mutated", _cut(chance, bytes(whole), chance.choice([1, 3])), chance.choice(_ENDS), is_whole=False)


def _hostile_json(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    body = chance.choice(
        [
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b'{"messages":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
            b'{"max_tokens": 1e400}',
            b'{"max_tokens": ' + b"9" * 5_000 + b"}",
            b'{"n": -0}',
            b'{"model": "fake", "model": 3}',
            b"NaN",
            b'{"messages": [NaN]}',
            b'{"model": "' + b"m" * 300_000 + b'"}',
            b'"' + b"\\u0041" * 30_000 + b'"',
            b"\xef\xbb\xbf{}",
            _chat(chance).decode().encode("utf-16"),
            json.dumps({key: _value(chance, 3) for key in _some_keys(chance)}).encode(),
            json.dumps({"model": "fake", "messages": _value(chance, 4), "prompt": _value(chance, 2)}).encode(),
        ]
    )
    return Attack("hostile_json", (_post(body, headers, chance.choice(_PATHS[:3])),))


def _some_keys(chance: random.Random) -> list[str]:
    known = ["model", "messages", "prompt", "input", "n", "stream", "max_tokens", "service_tier", "tools", "user", ""]
    return chance.sample(known, chance.randint(0, len(known)))


def _value(chance: random.Random, depth: int) -> Any:  # noqa: ANN401  # any JSON
    leaves: list[Any] = [None, True, -1, 0, 2**63, 1e308, "", "fake", "\ud800", "\x00", [], {}]
    if depth == 0 or chance.random() < 0.4:
        return chance.choice(leaves)
    if chance.random() < 0.5:
        return [_value(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    keys = ["role", "content", "type", "text", "image_url", "x"]
    return {key: _value(chance, depth - 1) for key in chance.sample(keys, chance.randint(0, 4))}


def _left_early(chance: random.Random, headers: tuple[str, ...]) -> Attack:
    """A proper request whose caller leaves before, within or after the answer."""
    whole = _post(_chat(chance, stream=chance.random() < 0.7, max_tokens=chance.choice([1, 50, 400])), headers)
    end = chance.choice(_ENDS[1:])
    return Attack("left_early", (whole, b""), end, chance.choice([0.0, 0.01, 0.1]), is_whole=False)


KINDS: Final[Mapping[str, Callable[[random.Random, tuple[str, ...]], Attack]]] = {
    "truncated_body": _truncated_body,
    "slow_sender": _slow_sender,
    "bad_chunking": _bad_chunking,
    "header_flood": _header_flood,
    "giant_header": _giant_header,
    "pipelined": _pipelined,
    "control_bytes": _control_bytes,
    "bad_text": _bad_text,
    "framing": _framing,
    "request_line": _request_line,
    "mutated": _mutated,
    "hostile_json": _hostile_json,
    "left_early": _left_early,
}
