"""Whatever an engine serves under /v1 is served through the front end: it need not know the route."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.integration.http_answers import ask
from tests.integration.processes import front_end
from tests.integration.scripted_engine import MODEL, ScriptedEngine, scripted_engine, stream, whole

BYTES = bytes(range(256)) * 8
NAMED = json.dumps({"model": MODEL, "text": "é\u2028\U0001f600"}, ensure_ascii=False).encode()


# The engine runs in the tests' own loop, so all of them share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[ScriptedEngine, aiohttp.ClientSession]]:
    folder = tmp_path_factory.mktemp("server")
    async with (
        scripted_engine() as engine,
        front_end(folder, engine.url) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        yield engine, session


@pytest.fixture
def upstream(served: tuple[ScriptedEngine, aiohttp.ClientSession]) -> ScriptedEngine:
    served[0].begin_anew()
    return served[0]


@pytest.fixture
def client(served: tuple[ScriptedEngine, aiohttp.ClientSession]) -> aiohttp.ClientSession:
    return served[1]


async def teapot(request: web.Request) -> web.StreamResponse:
    headers = [("X-Custom", "a"), ("X-Twice", "1"), ("X-Twice", "2"), ("Content-Type", "image/png"), ("ETag", '"e"')]
    return web.Response(status=203, headers=headers, body=BYTES)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_method_target_headers_and_body_arrive_as_sent(
    client: aiohttp.ClientSession, upstream: ScriptedEngine, method: str
) -> None:
    target = "/v1/some%20new/th%2Fing;x=1?a=1&a=2&b=%20%2B+c&empty="
    headers = {"X-Foo": "bar", "Accept": "x/y", "User-Agent": "me/1", "Content-Type": "application/octet-stream"}
    answer = await ask(client, target, BYTES, method=method, headers=headers)
    assert (answer.status, answer.body) == (200, BYTES)
    (seen,) = upstream.seen
    assert (seen.method, seen.target, seen.body) == (method, target, BYTES)
    assert {name: seen.header(name.lower()) for name in headers} == {name: [headers[name]] for name in headers}
    assert seen.header("x-request-id") == [answer.headers["X-Request-Id"]]


async def test_status_headers_and_bytes_come_back_as_the_engine_sent_them(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    upstream.script = teapot
    for method, body in (("GET", None), ("POST", NAMED)):
        answer = await ask(client, "/v1/picture", body, method=method)
        assert (answer.status, answer.body) == (203, BYTES)
        assert (answer.headers["X-Custom"], answer.headers["ETag"]) == ("a", '"e"')
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers.getall("X-Twice") == ["1", "2"]  # type: ignore[attr-defined]  # a multidict


async def test_the_callers_credentials_stay_here(client: aiohttp.ClientSession, upstream: ScriptedEngine) -> None:
    secrets = {"Authorization": "Bearer sk-secret", "Cookie": "session=secret"}
    for method, body in (("GET", None), ("POST", NAMED)):
        await ask(client, "/v1/anything", body, method=method, headers=secrets)
    assert len(upstream.seen) == 2
    assert not [value for seen in upstream.seen for _, value in seen.headers if "secret" in value]


async def test_a_post_that_names_its_model_is_served_on_any_route(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    upstream.script = whole(b' {"unknown" : "shape" }\n')
    answer = await ask(client, "/v1/brand/new?beta=1", NAMED)
    assert answer.body == b' {"unknown" : "shape" }\n', "no forward pass, no energy"
    assert (upstream.seen[0].target, upstream.seen[0].body) == ("/v1/brand/new?beta=1", NAMED)


async def test_a_redirect_is_the_callers_to_follow(client: aiohttp.ClientSession, upstream: ScriptedEngine) -> None:
    async def script(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "/v1/elsewhere"})

    upstream.script = script
    async with client.get("/v1/old", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, "/v1/elsewhere")
    assert len(upstream.seen) == 1


async def test_a_repeated_header_arrives_as_often(client: aiohttp.ClientSession, upstream: ScriptedEngine) -> None:
    async with client.get("/v1/anything", headers=[("X-Twice", "1"), ("X-Twice", "2")]):
        pass
    assert upstream.seen[0].header("x-twice") == ["1", "2"]


async def test_a_post_without_a_body_reaches_the_engine(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    answer = await ask(client, "/v1/responses/resp_1/cancel")
    assert (answer.status, upstream.seen[-1].target) == (200, "/v1/responses/resp_1/cancel")


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
async def test_a_post_that_names_no_model_goes_to_the_one_that_is_served(
    client: aiohttp.ClientSession, upstream: ScriptedEngine, content_type: str
) -> None:
    answer = await ask(client, "/v1/files", b"{}", headers={"Content-Type": content_type})
    assert (answer.status, answer.body) == (200, b"{}")


async def test_expecting_100_continue_is_between_the_caller_and_us(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    headers = {"Content-Type": "application/json"}
    async with client.post("/v1/anything", data=NAMED, headers=headers, expect100=True) as response:
        assert response.status == 200
    assert upstream.seen[0].header("expect") == []


async def test_a_stream_that_is_fetched_with_get_is_relayed_as_it_comes(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    go = asyncio.Event()
    upstream.script = stream([b"data: 1\n\n", b"data: [DONE]\n\n"], go)
    try:
        async with asyncio.timeout(2), client.get("/v1/responses/resp_1?stream=true") as response:
            assert await response.content.readline() == b"data: 1\n"
            go.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
    finally:
        go.set()
