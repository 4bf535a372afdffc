"""A request's id is the caller's where it can be, ours where it cannot, and the same everywhere."""

import asyncio
import re

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import EngineProcess

MADE = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("given", ["abc", "a.b:c-d_E9", "x" * 127])
async def test_a_callers_id_is_kept(client: aiohttp.ClientSession, given: str, *, stream: bool) -> None:
    given += "s" if stream else "w"
    body = HELLO | {"max_tokens": 1, "stream": stream}
    answer = await ask(client, CHAT, body, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given
    assert f'"id":"chatcmpl-{given}"'.encode() in answer.body, "the engine knows it by that id too"


async def test_an_id_is_made_where_the_caller_gives_none(client: aiohttp.ClientSession) -> None:
    answers = [await ask(client, CHAT, HELLO | {"max_tokens": 1}) for _ in range(3)]
    made = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(made) == 3
    assert all(MADE.fullmatch(request_id) for request_id in made)
    assert answers[0].json()["id"] == f"chatcmpl-{answers[0].headers['X-Request-Id']}"


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "ü", "x" * 129, "a/../b", "a\tb"])
async def test_an_unusable_id_is_replaced(client: aiohttp.ClientSession, given: str) -> None:
    answer = await ask(client, CHAT, HELLO | {"max_tokens": 1}, headers={"X-Request-Id": given})
    assert answer.status == 200
    assert MADE.fullmatch(answer.headers["X-Request-Id"])


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/fail?status=500"), ("POST", CHAT), ("GET", "/v1/new")])
async def test_errors_and_other_routes_carry_it_too(client: aiohttp.ClientSession, method: str, path: str) -> None:
    body = b"{" if method == "POST" else None
    answer = await ask(client, path, body, method=method, headers={"X-Request-Id": "abc"})
    assert answer.headers["X-Request-Id"] == "abc"


@pytest.mark.parametrize("stream", [False, True])
async def test_two_at_once_with_one_id_are_both_served(
    client: aiohttp.ClientSession, engine: EngineProcess, *, stream: bool
) -> None:
    body = HELLO | {"max_tokens": 20, "stream": stream}
    given = {"X-Request-Id": f"same-{stream}"}
    answers = await asyncio.gather(*(ask(client, CHAT, body, headers=given) for _ in range(3)))
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.headers["X-Request-Id"] for answer in answers} == {f"same-{stream}"}
    recent = [request["request_id"] for request in (await engine.energy())["recent_requests"]]
    known = [request_id for request_id in recent if request_id.startswith(f"same-{stream}")]
    assert len(known) == len(set(known)) == 3, "the engine can tell them apart"
    assert f"same-{stream}" in known
