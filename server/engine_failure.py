"""What an engine's own failure looks like, whole or as an event of a stream. Its refusals of a request are none."""

import json
from typing import Any, Final

# 501 is a route the engine does not have: another of the same kind has it neither.
_NOT_IMPLEMENTED: Final = 501
# What vLLM and OpenAI call an error that is not the caller's fault, where they give no status.
_FAILURE_TYPES: Final = frozenset({"InternalServerError", "server_error"})


def is_failure_status(status: int) -> bool:
    """Whether an answer with this status is the engine's fault, so that another engine may do better."""
    return 500 <= status < 600 and status != _NOT_IMPLEMENTED


def begins_with_failure(first: bytes) -> bool:
    """Whether the first event of a stream, which `first` begins with, tells of nothing but the engine's failure.

    vLLM answers a request whose engine died so, as its status of 200 has left by then: `data: {"error": …}` with the
    status as its code. An event that is not whole in `first` is taken for the beginning of an answer.
    """
    if b'"error"' not in first:
        return False
    for line in first.splitlines():
        if line.startswith(b"data:"):
            return _is_failure(line[len(b"data:") :])
    return False


def _is_failure(data: bytes) -> bool:
    try:
        event: Any = json.loads(data)
    except (ValueError, RecursionError):
        return False
    error = event.get("error") if isinstance(event, dict) else None
    if not isinstance(error, dict):
        return False
    code = error.get("code")
    if isinstance(code, int):
        return is_failure_status(code)
    return error.get("type") in _FAILURE_TYPES
