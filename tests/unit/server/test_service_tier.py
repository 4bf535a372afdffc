import json

import pytest

from server.service_tier import asked_tier, with_tier_asked, with_tier_told

VLLM_CHAT = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"a \\"service_tier\\":null in a text"},"finish_reason":"stop"}],"service_tier":null,'
    b'"system_fingerprint":null,"usage":{"prompt_tokens":1,"total_tokens":2},"energy":{"energy_joules":1.0}}'
)


def test_the_tier_replaces_the_engines_null_and_nothing_else() -> None:
    told = with_tier_told(VLLM_CHAT, "flex")
    assert told == VLLM_CHAT.replace(b'],"service_tier":null', b'],"service_tier":"flex"')
    assert json.loads(told)["service_tier"] == "flex"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"service_tier":"auto"}', b'{"service_tier":"flex"}'),
        (b'{"service_tier": null , "a": "}"}', b'{"service_tier": "flex" , "a": "}"}'),
        (
            b'{"a":[{"service_tier":null}],"service_tier":null}\n',
            b'{"a":[{"service_tier":null}],"service_tier":"flex"}\n',
        ),
        (b'{"service_tier":null,"a":{"service_tier":null}}', b'{"service_tier":"flex","a":{"service_tier":null}}'),
        (b'{"service_tier":null,"a":"\\\\","b":"{["}', b'{"service_tier":"flex","a":"\\\\","b":"{["}'),
    ],
)
def test_only_the_key_at_the_top_is_meant(body: bytes, told: bytes) -> None:
    assert with_tier_told(body, "flex") == told


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"metadata":{"service_tier":"mine"}}',
        b'{"list":[{"service_tier":null}]}',
        b'{"service_tier":7}',
        b'{"text":"\\"service_tier\\":null"}',
        b"not JSON at all",
    ],
)
def test_where_the_engine_says_nothing_nothing_is_added(body: bytes) -> None:
    assert with_tier_told(body, "flex") == body


@pytest.mark.parametrize("name", [None, "auto", "scale"])
@pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"model":"m","service_tier":"auto"}\n', b"{ }"])
def test_the_responses_api_is_asked_for_the_tier_given(body: bytes, name: str | None) -> None:
    asked = json.loads(with_tier_asked(body, name, "priority", "/v1/responses"))
    assert asked == json.loads(body) | {"service_tier": "priority"}


@pytest.mark.parametrize("body", [b"", b" ", b"name=value", b"[1]"])
def test_what_is_no_object_is_left_for_the_engine_to_refuse(body: bytes) -> None:
    assert with_tier_asked(body, None, "default", "/v1/responses") is body


def test_every_other_body_is_passed_on_as_it_came() -> None:
    body = b'{"service_tier":"auto"}'
    assert with_tier_asked(body, "auto", "default", "/v1/chat/completions") is body
    assert with_tier_asked(body, "flex", "flex", "/v1/responses") is body


@pytest.mark.parametrize(
    ("name", "tier"),
    [(None, None), ("auto", None), ("default", "default"), ("standard_only", "default"), ("scale", "priority")],
)
def test_no_name_and_auto_leave_the_choice(name: str | None, tier: str | None) -> None:
    assert asked_tier(name) == tier
