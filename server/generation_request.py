"""The few fields of a request body that decide its way; the rest is the engine's to judge."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.api_error import ApiError

# OpenAI's tiers; `auto` and whatever the engine may yet refuse count as the default.
_TIERS: Final = frozenset({"default", "flex", "priority", "scale"})


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What routing needs to know. `model` is None where the body names none."""

    model: str | None
    stream: bool
    tier: str
    max_output_tokens: int | None


class _Fields(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    model: str | None = None
    # vLLM's own check of these two does not name the field.
    messages: Annotated[list[Any], Field(min_length=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    service_tier: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None


def parse_generation_request(body: bytes) -> GenerationRequest:
    """Read the routing fields of a JSON body.

    Raises:
        ApiError: 400, naming the field, when the body is not a JSON object or a field has the wrong type.
    """
    try:
        fields = _Fields.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error.errors(include_url=False, include_input=False)[0]) from None
    limit = fields.max_completion_tokens or fields.max_tokens or fields.max_output_tokens
    tier = fields.service_tier if fields.service_tier in _TIERS else "default"
    return GenerationRequest(fields.model, bool(fields.stream), tier, limit)


def _explain(problem: Any) -> ApiError:  # noqa: ANN401  # pydantic's error details
    if problem["type"] == "json_invalid":
        return ApiError(
            400, f"the body is not valid JSON: {problem['msg'].removeprefix('Invalid JSON: ')}", "invalid_json"
        )
    if not problem["loc"]:
        return ApiError(400, "the body must be a JSON object", "invalid_type")
    field = ".".join(str(part) for part in problem["loc"])
    return ApiError(400, f"{field}: {problem['msg'][:1].lower()}{problem['msg'][1:]}", "invalid_type", field)
