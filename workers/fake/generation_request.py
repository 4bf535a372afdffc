"""A generation request as the fake engine understands it: read from JSON, checked, frozen."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from workers.fake.errors import RequestRefusedError
from workers.fake.settings import FakeSettings

DEFAULT_MAX_TOKENS = 16  # OpenAI's default for completions
MAX_SEQUENCES = 128  # OpenAI's limit; vLLM has one too
CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English text

Endpoint = Literal["chat", "completions"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One checked request.

    `crash_after_tokens` closes the connection after that many tokens of each sequence, and `hang` never
    answers: they let tests stage an engine's faults.
    """

    endpoint: Endpoint
    request_id: str
    prompt_tokens: int
    max_tokens: int
    sequences: int
    stream: bool
    include_usage: bool
    crash_after_tokens: int | None
    hang: bool


def parse_generation_request(
    endpoint: Endpoint, request_id: str, body: bytes, settings: FakeSettings
) -> GenerationRequest:
    """Reads a request body.

    Raises:
        RequestRefusedError: the body is not JSON, a field is out of range, the model is not served here or
            the prompt is longer than the model's context.
    """
    fields = _json_object(body)
    _check_model(fields, settings)
    prompt_tokens = _prompt_tokens(endpoint, fields)
    if prompt_tokens > settings.max_model_len:
        message = f"the prompt has {prompt_tokens} tokens, the model's limit is {settings.max_model_len}"
        raise RequestRefusedError(400, message, "context_length_exceeded", "messages")
    options = fields.get("stream_options")
    max_tokens = _integer(fields, "max_completion_tokens", None, 1)
    max_tokens = max_tokens or _integer(fields, "max_tokens", DEFAULT_MAX_TOKENS, 1) or DEFAULT_MAX_TOKENS
    sequences = _integer(fields, "n", 1, 1) or 1
    if sequences > MAX_SEQUENCES:
        raise RequestRefusedError(400, f"n must be at most {MAX_SEQUENCES}, not {sequences}", "invalid_value", "n")
    crash_after_tokens = fields.get("fake_crash_after_tokens")
    return GenerationRequest(
        endpoint=endpoint,
        request_id=request_id,
        prompt_tokens=prompt_tokens,
        # As with vLLM the context is the end of every answer.
        max_tokens=max(min(max_tokens, settings.max_model_len - prompt_tokens), 1),
        sequences=sequences,
        stream=bool(fields.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        crash_after_tokens=crash_after_tokens if isinstance(crash_after_tokens, int) else None,
        hang=bool(fields.get("fake_hang")),
    )


def count_prompt_tokens(body: bytes, settings: FakeSettings) -> int:
    """Reads what `/tokenize` is asked.

    Raises:
        RequestRefusedError: as for a request that is to be run, however long the prompt.
    """
    fields = _json_object(body)
    _check_model(fields, settings)
    return _prompt_tokens("completions" if "prompt" in fields else "chat", fields)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError as error:
        message = f"the request body is not valid JSON: {error}"
        raise RequestRefusedError(400, message, "invalid_json") from error
    if not isinstance(fields, dict):
        raise RequestRefusedError(400, "the request body must be a JSON object", "invalid_json")
    return fields


def _check_model(fields: dict[str, Any], settings: FakeSettings) -> None:
    # As vLLM does, a request that names no model gets the one that is served.
    model = fields.get("model")
    if model is not None and model != settings.model:
        raise RequestRefusedError(404, f"the model {model!r} does not exist", "model_not_found", "model")


def _integer(fields: dict[str, Any], name: str, default: int | None, lowest: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not int or value < lowest:
        message = f"{name} must be an integer of at least {lowest}, not {value!r}"
        raise RequestRefusedError(400, message, "invalid_value", name)
    return value


def _prompt_tokens(endpoint: Endpoint, fields: dict[str, Any]) -> int:
    if endpoint == "completions":
        prompt = fields.get("prompt")
        if prompt is None:
            raise RequestRefusedError(400, "prompt is required", "missing_required_parameter", "prompt")
        return -(-_characters(prompt) // CHARACTERS_PER_TOKEN)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        message = "messages must be a list of objects"
        raise RequestRefusedError(400, message, "missing_required_parameter", "messages")
    characters = sum(_characters(message.get("content")) for message in messages)
    return -(-characters // CHARACTERS_PER_TOKEN)


def _characters(content: object) -> int:
    """Length of a text, of a list of texts or content parts, or of a list of token ids."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, dict):
        return _characters(content.get("text"))
    if isinstance(content, list):
        return sum(_characters(part) for part in content)
    return CHARACTERS_PER_TOKEN if isinstance(content, int) else 0
