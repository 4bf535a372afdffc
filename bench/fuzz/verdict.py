"""What an answer to a hostile request must be: no failure of ours, and an error only in OpenAI's shape."""

import json
from typing import Any, Final

_LOWEST_ERROR: Final = 400
_LOWEST_FAILURE: Final = 500
_KEYS: Final = {"message", "type", "param", "code"}


def fault_of_answer(status: int, content_type: str, body: bytes, *, has_body: bool = True) -> str | None:
    """What is wrong with an answer, None if nothing is. `has_body` is false of answers to HEAD."""
    if status >= _LOWEST_FAILURE:
        return f"status {status}: {body[:300]!r}"
    if status < _LOWEST_ERROR or not has_body:
        return None
    if not content_type.startswith("application/json"):
        return f"status {status} with content type {content_type!r}: {body[:300]!r}"
    try:
        answer = json.loads(body)
    except ValueError:
        return f"status {status} with a body that is not JSON: {body[:300]!r}"
    return _fault_of_error(status, answer)


def _fault_of_error(status: int, answer: Any) -> str | None:  # noqa: ANN401  # any JSON
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict) or set(answer) != {"error"} or set(error) != _KEYS:
        return f"status {status}, not in OpenAI's shape: {answer!r}"
    texts = error["message"], error["type"], error["code"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(error["param"], str | None):
        return f"status {status}, with an error whose fields have other types than OpenAI's: {answer!r}"
    return None
