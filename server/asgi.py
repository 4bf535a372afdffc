"""The few ASGI shapes and header chores that the proxy needs. No policy here."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from server.api_error import ApiError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_BODILESS: Final = frozenset({204, 304})
# RFC 9110 section 7.6.1, and what each side of a proxy states for itself.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"content-length",
    }
)
# The engine must answer in clear for its bytes to be spliced, and has no business with the caller's credentials.
_NOT_FOR_ENGINES: Final = _HOP_BY_HOP | {
    b"host",
    b"accept-encoding",
    b"authorization",
    b"x-api-key",
    b"cookie",
    b"x-request-id",
}
_NOT_FOR_CALLERS: Final = _HOP_BY_HOP | {b"date", b"server", b"x-request-id"}


def engine_headers(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[str, str]]:
    """The caller's headers as the engine gets them; those that `Connection` names are between the caller and us."""
    connection = header(headers, b"connection")
    if connection is not None and b"," in connection:
        named = {name.strip().lower() for name in connection.split(b",")}
        headers = [(name, value) for name, value in headers if name not in named]
    kept = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in _NOT_FOR_ENGINES
    ]
    kept.append(("x-request-id", request_id))
    return kept


def engine_target(scope: Scope) -> str:
    """Path and query as the caller wrote them.

    Raises:
        ApiError: 400 when they hold bytes that belong percent-encoded.
    """
    query = scope["query_string"]
    target: bytes = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
    if not target.isascii():
        raise ApiError(400, "the URL must be ASCII, with everything else percent-encoded", "invalid_url")
    path = unquote(scope["path"])
    if any(part in {".", ".."} for part in path.split("/")):
        raise ApiError(400, "the path may not hold . or .. segments", "invalid_url")
    return target.decode("ascii")


def caller_headers(raw_headers: Iterable[tuple[bytes, bytes]], request_id: str) -> Headers:
    """The engine's headers as the caller gets them."""
    kept = [(name.lower(), value) for name, value in raw_headers if name.lower() not in _NOT_FOR_CALLERS]
    kept.append((b"x-request-id", request_id.encode("ascii")))
    return kept


def json_headers(headers: Headers) -> Headers:
    """The same headers for a body that has become JSON."""
    return [
        *((name, value) for name, value in headers if name != b"content-type"),
        (b"content-type", b"application/json"),
    ]


def header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    """The first header of that lower-case name."""
    # Called several times a request, and a loop takes two thirds of the time of a generator.
    length = len(wanted)
    for name, value in headers:
        if len(name) == length and name.lower() == wanted:
            return value
    return None


async def read_body(receive: Receive, headers: Iterable[tuple[bytes, bytes]], max_bytes: int) -> bytes:
    """The whole request body.

    Raises:
        ApiError: 413 when it is, or says it is, longer than `max_bytes`; 400 when the caller left in the middle.
    """
    declared = header(headers, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the request body broke off", "incomplete_body")
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A response in one piece."""
    all_headers = headers if status in _BODILESS else [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(send: Send, error: ApiError, request_id: str | None = None) -> None:
    """An error in OpenAI's shape."""
    headers: Headers = [(b"content-type", b"application/json")]
    headers += [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in error.headers.items()]
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode("ascii")))
    await send_whole(send, error.status, headers, error.body())


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"the request body exceeds {max_bytes} bytes", "request_too_large")
