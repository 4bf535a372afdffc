"""Reads the energy cap that a request asks for, before the engine sees it, and refuses what cannot be kept."""

import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from metering.energy_cap import CAP_FIELD, CAP_HEADER, EnergyCapError, parse_energy_cap
from metering.routes import generates

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

_RESPONSES: Final = "/v1/responses"
_JSON: Final = b"application/json"


class CapRefusedError(Exception):
    """The request is to be answered 400; `body` is the error in OpenAI's shape."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        error = {"message": message, "type": "invalid_request_error", "param": CAP_FIELD, "code": code}
        self.body: Final = json.dumps({"error": error}).encode()


@dataclass(frozen=True, slots=True)
class CapRequest:
    """What a request asks for, and how the application gets its body, which has been read for it.

    `engine_name` is the name by which the Responses API will know it, given to it here: it makes its own otherwise.
    """

    max_joules: float | None
    receive: Receive
    engine_name: str | None = None


async def read_cap(scope: Scope, receive: Receive, why_unavailable: Callable[[], str | None]) -> CapRequest:
    """The cap of a request to the engine; `why_unavailable` is asked, if there is one, why it could not be kept.

    Raises:
        CapRefusedError: it is no cap, or it cannot be kept.
    """
    in_header = any(name == CAP_HEADER for name, _ in scope["headers"])
    further, body = receive, None
    fields: dict[str, Any] | None = None
    if _is_json(scope):
        messages, body = await _read_body(receive)
        further, receive = receive, _replay(messages, receive)
        if in_header or (body is not None and CAP_FIELD.encode() in body):
            fields = _json_object(body)
    try:
        max_joules = parse_energy_cap(scope["headers"], fields)
    except EnergyCapError as error:
        raise CapRefusedError("invalid_value", str(error)) from error
    if max_joules is None:
        return CapRequest(None, receive)
    if (reason := _why_never(scope["path"], fields or {}) or why_unavailable()) is not None:
        raise CapRefusedError("energy_cap_unavailable", f"{CAP_FIELD} cannot be kept here: {reason}")
    if scope["path"] == _RESPONSES and body is not None and fields:
        name = fields.get("request_id")
        if isinstance(name, str):
            return CapRequest(max_joules, receive, name)
        name = f"resp_{secrets.token_hex(16)}"
        return CapRequest(max_joules, _named(body, name, further), name)
    return CapRequest(max_joules, receive)


def _is_json(scope: Scope) -> bool:
    """Whether the body may hold the field: a form with an audio file in it is not read for it."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return not kinds or kinds[0].lower().startswith(_JSON) or kinds[0].lower().partition(b";")[0].endswith(b"+json")


async def _read_body(receive: Receive) -> tuple[list[Message], bytes | None]:
    """All messages up to the end of the body, and the body; None where the caller left before."""
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False):
        messages.append(await receive())
    if messages[-1]["type"] != "http.request":
        return messages, None
    return messages, b"".join(message.get("body", b"") for message in messages)


def _replay(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replay() -> Message:
        for message in waiting:
            return message
        return await receive()

    return replay


def _json_object(body: bytes | None) -> dict[str, Any] | None:
    """The body where it is a JSON object; of others the engine says what is wrong with them."""
    try:
        fields = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _why_never(path: str, fields: dict[str, Any]) -> str | None:
    if not generates(path):
        return f"requests to {path} cannot be ended early"
    if fields.get("use_beam_search"):
        return "beam search goes on with new sequences when one ends"
    if path == _RESPONSES and fields.get("background"):
        return "a background response is answered before it is generated"
    return None


def _named(body: bytes, name: str, receive: Receive) -> Receive:
    """The body with an id for the response put before its first key; whatever else it says stays as it is."""
    head, _, rest = body.partition(b"{")
    body = b'%s{"request_id":"%s",%s' % (head, name.encode(), rest)
    return _replay([{"type": "http.request", "body": body, "more_body": False}], receive)
