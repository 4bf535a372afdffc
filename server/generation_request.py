"""The few fields of a request body that decide its way; the rest is the engine's to judge."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler import tiers
from server.api_error import ApiError
from server.multipart_form import read_form
from server.prompt import UNKNOWN_PROMPT, Prompt, measure
from server.service_tier import tier_of


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What routing needs to know. `model` is None where the body names none.

    `tier` is the one the request gets, `tier_name` what the caller wrote. `is_truncated` is true where the engine is
    to cut a prompt that is too long. `max_output_field` is the body's name for `max_output_tokens`; `max_energy` the
    body's `max_energy_joules`, `previous_response_id` and `own_response_id` (which the body calls `request_id`) of the
    Responses API, none of them judged yet.
    """

    model: str | None
    stream: bool
    tier: str
    max_output_tokens: int | None
    tier_name: str | None = None
    prompt: Prompt = UNKNOWN_PROMPT
    is_truncated: bool = False
    max_output_field: str = "max_tokens"
    max_energy: object = None
    previous_response_id: object = None
    own_response_id: object = None


# Of several the engine follows the first.
_OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class _Fields(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    model: str | None = None
    # vLLM's own check of these two does not name the field.
    messages: Annotated[list[Any], Field(min_length=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    service_tier: str | None = None
    # Engines refuse less too, but only after the scheduler has counted on it.
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    max_output_tokens: Annotated[int, Field(ge=0)] | None = None
    # For their length only.
    prompt: Any = None
    input: Any = None
    system: Any = None
    instructions: Any = None
    tools: Any = None
    truncate_prompt_tokens: Any = None
    truncation: Any = None
    max_energy_joules: Any = None
    previous_response_id: Any = None
    request_id: Any = None


def parse_generation_request(body: bytes, path: str = "") -> GenerationRequest:
    """Read the routing fields of a JSON body that was posted to `path`.

    Raises:
        ApiError: 400, naming the field, when the body is not a JSON object, a field has the wrong type or the service
            tier is unknown.
    """
    try:
        fields = _Fields.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False, include_input=False)[0]) from None
    limit_field = next((name for name in _OUTPUT_LIMITS if getattr(fields, name)), "max_tokens")
    return GenerationRequest(
        model=fields.model,
        stream=bool(fields.stream),
        tier=tier_of(fields.service_tier, path),
        max_output_tokens=getattr(fields, limit_field) or None,
        tier_name=fields.service_tier,
        prompt=_prompt(fields, body),
        is_truncated=fields.truncate_prompt_tokens is not None or fields.truncation not in (None, "disabled"),
        max_output_field=limit_field,
        max_energy=fields.max_energy_joules,
        previous_response_id=fields.previous_response_id,
        own_response_id=fields.request_id,
    )


def parse_form_request(content_type: bytes, body: bytes) -> GenerationRequest:
    """Read the routing fields of a body that is no JSON: a multipart form, or something that has none.

    Raises:
        ApiError: 400, naming the field, when one cannot be what it is meant to be.
    """
    form = read_form(content_type, body)
    if form is None:
        return GenerationRequest(None, stream=False, tier=tiers.DEFAULT, max_output_tokens=None)
    return GenerationRequest(
        form.text("model"), stream=form.is_true("stream"), tier=tiers.DEFAULT, max_output_tokens=None
    )


def _prompt(fields: _Fields, body: bytes) -> Prompt:
    """A body without a prompt in a field we know (two texts to be compared, say) counts with all its bytes."""
    if fields.messages is not None:
        return measure("messages", fields.messages, fields.system, fields.tools)
    if fields.input is not None:  # before `prompt`, which in the Responses API names a stored template
        return measure("input", fields.input, fields.instructions, fields.tools)
    if fields.prompt is not None:
        return measure("prompt", fields.prompt)
    return Prompt(text_bytes=len(body))


def _explain(problem: Any) -> ApiError:  # noqa: ANN401  # pydantic's error details
    if problem["type"] == "json_invalid":
        return ApiError(
            400, f"the body is not valid JSON: {problem['msg'].removeprefix('Invalid JSON: ')}", "invalid_json"
        )
    if not problem["loc"]:
        return ApiError(400, "the body must be a JSON object", "invalid_type")
    field = ".".join(str(part) for part in problem["loc"])
    return ApiError(400, f"{field}: {problem['msg'][:1].lower()}{problem['msg'][1:]}", "invalid_type", field)
