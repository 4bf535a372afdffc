import json
from typing import Any

import pytest

from server.api_error import ApiError, normalised_error

STATUSES = [400, 401, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503]


def inner(body: bytes) -> dict[str, Any]:
    whole = json.loads(body)
    assert set(whole) == {"error"}
    error: dict[str, Any] = whole["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    assert isinstance(error["type"], str)
    return error


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_openais_shape(status: int) -> None:
    error = inner(ApiError(status, "what happened").body())
    assert error["message"] == "what happened"
    assert (error["type"] == "server_error") == (status >= 500)


def test_callers_tell_their_own_faults_apart() -> None:
    kinds = {status: inner(ApiError(status, "").body())["type"] for status in (400, 401, 403, 429)}
    assert kinds == {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        429: "rate_limit_error",
    }


def test_a_code_and_a_parameter_can_be_given() -> None:
    error = inner(ApiError(404, "no", "model_not_found", "model").body())
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def vllm(status: int, message: str, param: str | None = None) -> bytes:
    """As vLLM writes it: the status as an integer code, and type names of its own."""
    error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize("status", STATUSES)
def test_an_engines_error_keeps_its_message_and_gains_a_string_code(status: int) -> None:
    error = inner(normalised_error(status, vllm(status, "as the engine said"), "/v1/x"))
    assert error["message"] == "as the engine said"
    assert error["code"] == inner(ApiError(status, "").body())["code"]


def test_an_unknown_model_has_openais_code() -> None:
    assert inner(normalised_error(404, vllm(404, "no such model", "model"), "/v1/x"))["code"] == "model_not_found"


def test_too_long_a_prompt_has_openais_code() -> None:
    message = "This model's maximum context length is 2048 tokens. However, your request has 3000 input tokens."
    error = inner(normalised_error(400, vllm(400, message, "input_tokens"), "/v1/x"))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input_tokens")


def test_a_field_is_named_as_the_caller_wrote_it() -> None:
    assert inner(normalised_error(400, vllm(400, "bad", "body.messages"), "/v1/x"))["param"] == "messages"


def test_a_string_code_is_kept() -> None:
    body = b'{"error": {"message": "m", "type": "t", "param": null, "code": "own_code"}}'
    assert inner(normalised_error(400, body, "/v1/x"))["code"] == "own_code"


def test_an_error_goes_through_twice_unchanged() -> None:
    once = normalised_error(404, vllm(404, "no such model", "model"), "/v1/x")
    assert normalised_error(404, once, "/v1/x") == once


@pytest.mark.parametrize(
    "body",
    [
        b"Bad Gateway",
        b"<html>",
        b'{"error":"text"}',
        b'{"error":null}',
        b"[]",
        b"1",
        b"\xff\xfe",
        b'{"error":{"code":1}}',
    ],
)
def test_what_is_no_error_is_wrapped_in_one(body: bytes) -> None:
    assert inner(normalised_error(502, body, "/v1/x"))["message"] == body.decode(errors="replace")


def test_an_empty_body_says_the_status() -> None:
    assert inner(normalised_error(502, b"", "/v1/x"))["message"] == "the engine answered 502 to /v1/x"


def test_a_long_page_is_cut() -> None:
    assert len(inner(normalised_error(502, b"x" * 10_000, "/v1/x"))["message"]) == 500


def test_the_detail_of_fastapis_own_errors_is_told_with_the_path() -> None:
    error = inner(normalised_error(404, b'{"detail":"Not Found"}', "/v1/embeddings"))
    assert error["message"] == "the engine answered 404 to /v1/embeddings: Not Found"


def test_class_names_of_the_engine_are_left_out_of_the_field() -> None:
    body = vllm(400, "bad", "body.messages.0.ChatCompletionDeveloperMessageParam.content")
    assert inner(normalised_error(400, body, "/v1/x"))["param"] == "messages.0.content"
