"""Every refusal has OpenAI's shape, a string code and the status that says whose fault it is."""

import json
from typing import Any

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, COMPLETIONS, HELLO, PROMPT, ask, metrics


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/v1/embeddings"])
@pytest.mark.parametrize("body", [b"{", b'{"model": "fake",}', b"\xff\xfe", b"hello", b'{"a": 1} x'])
async def test_malformed_json_is_400(client: aiohttp.ClientSession, path: str, body: bytes) -> None:
    answer = await ask(client, path, body, headers={"Content-Type": "application/json"})
    error = answer.error()
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_json")
    assert "not valid JSON" in error["message"]


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"'])
async def test_a_body_that_is_no_object_is_400(client: aiohttp.ClientSession, body: bytes) -> None:
    answer = await ask(client, CHAT, body)
    assert (answer.status, answer.error()["code"]) == (400, "invalid_type")
    assert "JSON object" in answer.error()["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("stream", "yes"), ("stream", 1), ("model", 7), ("max_tokens", "many"), ("max_tokens", 1.5), ("service_tier", [])],
)
async def test_a_field_of_the_wrong_type_is_400_and_named(
    client: aiohttp.ClientSession, field: str, value: Any
) -> None:
    answer = await ask(client, CHAT, HELLO | {field: value})
    error = answer.error()
    assert (answer.status, error["param"], error["type"]) == (400, field, "invalid_request_error")
    assert error["message"].startswith(f"{field}: ")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_404(client: aiohttp.ClientSession, *, stream: bool) -> None:
    answer = await ask(client, CHAT, HELLO | {"model": "gpt-9", "stream": stream})
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "gpt-9" in error["message"]
    assert "fake" in error["message"], "the message says which are served"
    single = await ask(client, "/v1/models/gpt-9", method="GET")
    assert (single.status, single.error()["code"], single.error()["param"]) == (404, "model_not_found", "model")


async def chunked(size: int) -> Any:
    for _ in range(size // 512):
        yield b" " * 512


async def test_a_body_that_is_too_large_is_413(client: aiohttp.ClientSession) -> None:
    exact = json.dumps(HELLO | {"max_tokens": 1}).encode().ljust(4096)
    assert (await ask(client, CHAT, exact)).status == 200
    for path in (CHAT, "/v1/files"):
        answer = await ask(client, path, exact + b" ")
        assert (answer.status, answer.error()["code"]) == (413, "request_too_large")
        assert "4096" in answer.error()["message"]
    async with client.post(CHAT, data=chunked(8192)) as response:
        assert response.status == 413


@pytest.mark.parametrize("path", ["/index.html", "/v2/chat", "/v1", "/metrics/", "/nothing"])
async def test_an_unknown_route_is_404(client: aiohttp.ClientSession, path: str) -> None:
    answer = await ask(client, path, method="GET")
    assert (answer.status, answer.error()["code"]) == (404, "not_found")
    assert path in answer.error()["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/health"), ("DELETE", "/metrics"), ("PUT", "/ready"), ("GET", CHAT)],
)
async def test_a_wrong_method_is_405(client: aiohttp.ClientSession, method: str, path: str) -> None:
    answer = await ask(client, path, method=method)
    assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
    assert "Allow" in answer.headers


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_a_method_that_no_engine_knows_is_405_too(client: aiohttp.ClientSession, method: str) -> None:
    answer = await ask(client, CHAT, method=method)
    assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 429, 500, 503])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_an_engines_error_passes_once_and_is_not_wrapped(
    client: aiohttp.ClientSession, status: int, method: str
) -> None:
    body = {"model": "fake"} if method == "POST" else None
    answer = await ask(client, f"/v1/fail?status={status}", body, method=method)
    error = answer.error()
    assert (answer.status, error["code"]) == (status, "fake_failure")
    assert error["message"] == f"failing with {status} as asked"
    assert answer.headers.get("Retry-After") == ("1" if status in {429, 503} else None)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engines_refusal_names_its_field(client: aiohttp.ClientSession, *, stream: bool) -> None:
    answer = await ask(client, CHAT, HELLO | {"max_tokens": 0, "stream": stream})
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_value", "max_tokens")
    long = await ask(client, COMPLETIONS, PROMPT | {"prompt": [1] * 3000, "max_tokens": 1})
    assert (long.status, long.error()["code"]) == (413, "request_too_large")


async def test_errors_are_counted_by_whose_fault_they_are(client: aiohttp.ClientSession) -> None:
    before = await metrics(client)
    await ask(client, CHAT, HELLO | {"max_tokens": 0})
    await ask(client, "/v1/fail?status=500", {"model": "fake"})
    await ask(client, CHAT, HELLO | {"model": "made-up-by-a-caller"})
    after = await metrics(client)

    def counted(outcome: str, **labels: str) -> float:
        name = "wattline_requests_total"
        return after.total(name, outcome=outcome, **labels) - before.total(name, outcome=outcome, **labels)

    assert counted("refused", model="fake") == 1
    assert counted("failed", model="fake", endpoint="other") == 1
    assert counted("refused", model="unknown") == 1
    assert after.total("wattline_requests_total", model="made-up-by-a-caller") == 0
