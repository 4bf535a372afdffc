"""What the middleware makes of `max_energy_joules`: read, refused, passed on, and told in the block."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from metering.vllm_plugin.cap_request import CapRefusedError, CapRequest, read_cap

JSON = (b"content-type", b"application/json")


def scope_of(path: str = "/v1/completions", *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "path": path, "method": "POST", "headers": list(headers or [JSON])}


def receiving(*parts: bytes, leaves: bool = False) -> Callable[[], Any]:
    """The messages of a body in parts; after it, or in the middle of it, the caller leaves."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": leaves or index < len(parts) - 1}
        for index, part in enumerate(parts)
    ]
    messages.append({"type": "http.disconnect"})
    waiting: Iterator[dict[str, Any]] = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(waiting)

    return receive


async def read(scope: dict[str, Any], *parts: bytes, unavailable: str | None = None) -> CapRequest:
    return await read_cap(scope, receiving(*parts), lambda: unavailable)


async def body_of(request: CapRequest) -> bytes:
    """What the application gets to see."""
    body = b""
    while (message := await request.receive())["type"] == "http.request":
        body += message["body"]
    return body


async def refusal(scope: dict[str, Any], body: bytes, unavailable: str | None = None) -> dict[str, Any]:
    with pytest.raises(CapRefusedError) as refused:
        await read(scope, body, unavailable=unavailable)
    error: dict[str, Any] = json.loads(refused.value.body)["error"]
    assert (error["param"], error["type"]) == ("max_energy_joules", "invalid_request_error")
    return error


async def test_the_body_is_read_for_its_cap_and_passed_on_as_it_came() -> None:
    request = await read(scope_of(), b'{"prompt":"x","max_en', b'ergy_joules":5}')
    assert request.max_joules == 5
    assert await body_of(request) == b'{"prompt":"x","max_energy_joules":5}'


async def test_a_body_without_one_is_not_parsed() -> None:
    request = await read(scope_of(), b"no json")
    assert request.max_joules is None
    assert await body_of(request) == b"no json"


async def test_the_header_alone_will_do_and_the_smaller_counts() -> None:
    header = (b"x-max-energy-joules", b"5")
    assert (await read(scope_of("/v1/completions", JSON, header), b"{}")).max_joules == 5
    both = await read(scope_of("/v1/completions", JSON, header), b'{"max_energy_joules": 2}')
    assert both.max_joules == 2


async def test_a_form_is_not_read_but_its_header_is() -> None:
    form = (b"content-type", b"multipart/form-data; boundary=x")
    request = await read(scope_of("/v1/audio/transcriptions", form, (b"x-max-energy-joules", b"5")), b"--x")
    assert request.max_joules == 5
    assert await body_of(request) == b"--x"


async def test_a_caller_that_leaves_before_the_end_of_the_body_has_left() -> None:
    request = await read_cap(scope_of(), receiving(b'{"max_energy_joules":', leaves=True), lambda: None)
    assert request.max_joules is None
    assert [(await request.receive())["type"] for _ in range(2)] == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    "text", [b'{"max_energy_joules":', b"[" * 100_000 + b'"max_energy_joules"', b'["max_energy_joules"]']
)
async def test_what_is_no_object_is_left_to_the_engine(text: bytes) -> None:
    assert (await read(scope_of(), text)).max_joules is None


@pytest.mark.parametrize("value", [b"0", b"-1", b'"5"', b"true", b"NaN"])
async def test_what_is_no_cap_is_refused_by_name(value: bytes) -> None:
    error = await refusal(scope_of(), b'{"max_energy_joules":%s}' % value)
    assert error["code"] == "invalid_value"
    assert "a finite number of joules above 0" in error["message"]


async def test_a_cap_that_cannot_be_kept_is_refused_with_the_reason() -> None:
    error = await refusal(scope_of(), b'{"max_energy_joules":5}', unavailable="no counter here")
    assert error["code"] == "energy_cap_unavailable"
    assert "no counter here" in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", b'{"max_energy_joules":5}'),
        ("/v1/completions", b'{"max_energy_joules":5,"use_beam_search":true}'),
        ("/v1/responses", b'{"max_energy_joules":5,"background":true}'),
    ],
)
async def test_what_cannot_be_ended_early_cannot_be_capped(path: str, body: bytes) -> None:
    assert (await refusal(scope_of(path), body))["code"] == "energy_cap_unavailable"


async def test_a_capped_response_is_given_the_name_it_is_looked_for_by() -> None:
    request = await read(scope_of("/v1/responses"), b' {"input":"x","max_energy_joules":5}')
    body = await body_of(request)
    assert json.loads(body) == {"request_id": request.engine_name, "input": "x", "max_energy_joules": 5}
    assert request.engine_name is not None
    assert request.engine_name.startswith("resp_")
    named = await read(scope_of("/v1/responses"), b'{"request_id":"mine","max_energy_joules":5}')
    assert named.engine_name == "mine"
    assert (await read(scope_of("/v1/responses"), b'{"input":"x"}')).engine_name is None
