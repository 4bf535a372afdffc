import json
from typing import Any

import pytest

from server.api_error import ApiError
from server.generation_request import GenerationRequest, parse_generation_request
from server.prompt import Prompt


def parsed(**fields: Any) -> GenerationRequest:
    return parse_generation_request(json.dumps(fields).encode())


def refusal(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as error:
        parse_generation_request(body)
    assert error.value.status == 400
    assert "\n" not in error.value.message
    return error.value


def test_an_empty_object_has_defaults() -> None:
    prompt = Prompt(text_bytes=len("{}"))
    assert parsed() == GenerationRequest(None, stream=False, tier="default", max_output_tokens=None, prompt=prompt)


def test_the_fields_that_route_a_request_are_read() -> None:
    request = parsed(model="m", stream=True, service_tier="flex", max_tokens=7, messages=[{"x": [1, {}]}], other=None)
    assert (request.model, request.stream, request.tier, request.max_output_tokens) == ("m", True, "flex", 7)
    assert request.tier_name == "flex"


def test_null_is_as_if_left_out() -> None:
    request = parsed(model=None, stream=None, service_tier=None, max_tokens=None)
    assert (request.model, request.stream, request.tier, request.max_output_tokens) == (None, False, "default", None)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
@pytest.mark.parametrize("bound", [-1, -(2**62), -(10**400)])
def test_a_negative_bound_on_the_answer_is_refused_by_name(field: str, bound: int) -> None:
    assert refusal(json.dumps({field: bound}).encode()).param == field


@pytest.mark.parametrize(
    ("name", "tier"),
    [("auto", "default"), ("default", "default"), ("flex", "flex"), ("priority", "priority"), ("scale", "priority")],
)
def test_each_of_openais_names_has_its_tier(name: str, tier: str) -> None:
    assert parsed(service_tier=name).tier == tier


@pytest.mark.parametrize("name", ["unheard-of", "", "Flex", "standard_only"])
def test_a_tier_we_do_not_know_is_refused_with_those_we_do(name: str) -> None:
    error = refusal(json.dumps({"service_tier": name}).encode())
    assert (error.code, error.param) == ("invalid_service_tier", "service_tier")
    assert error.message.endswith("accepted are: auto, default, flex, priority, scale")


def test_anthropics_names_are_known_on_its_path_only() -> None:
    body = json.dumps({"service_tier": "standard_only"}).encode()
    assert parse_generation_request(body, "/v1/messages").tier == "default"
    with pytest.raises(ApiError, match="accepted are: auto, standard_only, default, flex, priority, scale"):
        parse_generation_request(b'{"service_tier": "x"}', "/v1/messages")


@pytest.mark.parametrize(
    ("fields", "is_truncated"),
    [
        ({}, False),
        ({"truncate_prompt_tokens": 5}, True),
        ({"truncation": "auto"}, True),
        ({"truncation": "disabled"}, False),
        ({"truncation": {}}, True),
    ],
)
def test_it_is_seen_that_the_engine_will_cut_the_prompt(fields: dict[str, Any], is_truncated: bool) -> None:  # noqa: FBT001  # drawn
    assert parsed(**fields).is_truncated is is_truncated


def test_each_api_names_the_limit_of_its_output_in_its_own_way() -> None:
    assert parsed(max_tokens=3).max_output_tokens == 3
    assert parsed(max_output_tokens=3).max_output_tokens == 3
    both = parsed(max_completion_tokens=3, max_tokens=9)
    assert (both.max_output_tokens, both.max_output_field) == (3, "max_completion_tokens")


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b'{"a": 1}{', b"\xff", b'{"a": \x00}'])
def test_what_is_not_json_is_said_to_be_that(body: bytes) -> None:
    error = refusal(body)
    assert (error.code, error.param) == ("invalid_json", None)
    assert error.message.startswith("the body is not valid JSON: ")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_what_is_no_object_is_said_to_be_that(body: bytes) -> None:
    error = refusal(body)
    assert (error.code, error.param, error.message) == ("invalid_type", None, "the body must be a JSON object")


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", 1), ("model", ["m"]), ("stream", "true"), ("stream", 1), ("max_tokens", "5"), ("max_tokens", True)],
)
def test_a_field_of_another_type_is_named(field: str, value: Any) -> None:
    error = refusal(json.dumps({field: value}).encode())
    assert (error.code, error.param) == ("invalid_type", field)
    assert error.message.startswith(f"{field}: input should be a valid ")


def test_what_a_caller_wrote_is_not_repeated() -> None:
    assert "secret" not in refusal(b'{"model": ["secret"]}').message
