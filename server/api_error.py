"""Errors in OpenAI's shape, made here or passed on from an engine."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_SHOWN_CHARACTERS: Final = 500
_CLASS_NAMES: Final = re.compile(r"\.[A-Z][^.]*")
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    422: "invalid_request",
    431: "request_head_too_large",
    429: "rate_limit_exceeded",
    500: "internal_error",
    502: "engine_error",
    503: "service_unavailable",
}


class ApiError(Exception):
    """A refusal with its HTTP status; raised anywhere in the handling of a request, answered at its edge."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers: Mapping[str, str] = headers or {}

    def with_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> "ApiError":
        """The same error that tells these too; of equal names its own count."""
        told = {name.decode("ascii"): value.decode("ascii") for name, value in headers}
        return ApiError(self.status, self.message, self.code, self.param, told | dict(self.headers))

    def body(self) -> bytes:
        """The JSON body."""
        return json.dumps({"error": error_object(self.status, self.message, self.code, self.param)}).encode()


def error_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The inner object of OpenAI's error shape; `code` is a string by OpenAI's convention."""
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status, "error")}


def normalised_error(status: int, body: bytes, path: str) -> bytes:
    """An engine's error body with OpenAI's string code and type, and the field named as the caller wrote it.

    vLLM sends the HTTP status as an integer code, its own type names, and as the parameter `body.field`, for nested
    ones with the names of its classes in between. Whatever is not shaped like an error is wrapped in one.
    """
    try:
        answer = json.loads(body)
        error = answer.get("error", answer)
        message, param, code = str(error["message"]), error.get("param"), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ApiError(status, _plain_message(status, body, path)).body()
    if isinstance(param, str):
        param = _CLASS_NAMES.sub("", param.removeprefix("body."))
    if not isinstance(code, str):
        code = "model_not_found" if status == 404 and param == "model" else None
        if status == 400 and "maximum context length" in message:
            code = "context_length_exceeded"
    return ApiError(status, message, code, param).body()


def _plain_message(status: int, body: bytes, path: str) -> str:
    """What an answer that is no error object says; FastAPI's own have a `detail`."""
    summary = f"the engine answered {status} to {path}"
    try:
        return f"{summary}: {json.loads(body)['detail']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:_SHOWN_CHARACTERS].decode(errors="replace") or summary
