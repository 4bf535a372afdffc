"""Several models behind one server: each request finds the workers of its own, however it names it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.http_answers import CHAT, HELLO, ask, metrics
from tests.integration.processes import FrontEnd, eventually, front_end, is_ready
from tests.integration.scripted_engine import ScriptedEngine, scripted_engine, stream, whole

# The engines run in the tests' own loop, so all of them share one.
pytestmark = pytest.mark.asyncio(loop_scope="module")

TRANSCRIPTIONS = "/v1/audio/transcriptions"


@dataclass(frozen=True, slots=True)
class Served:
    """A server of three models; `chat` has two workers, the second an alias and an adapter of its own."""

    chat: ScriptedEngine
    chat_too: ScriptedEngine
    embed: ScriptedEngine
    speech: ScriptedEngine
    client: aiohttp.ClientSession

    def seen_by(self) -> list[str]:
        """Which engines have seen a request, in the order of the models."""
        engines = {"chat": self.chat, "chat_too": self.chat_too, "embed": self.embed, "speech": self.speech}
        return [name for name, engine in engines.items() for _ in engine.seen]


@contextlib.asynccontextmanager
async def several(folder: Path, *tables: dict[str, Any], **settings: Any) -> AsyncIterator[FrontEnd]:
    async with front_end(folder, wait_ready=False, models=json.dumps(tables), **settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("server")
    async with (
        scripted_engine("chat") as chat,
        scripted_engine("chat", "chat-alias", "chat-lora") as chat_too,
        scripted_engine("org/embed") as embed,
        scripted_engine("speech") as speech,
        several(
            folder,
            {"served_name": "chat", "worker_urls": [chat.url, chat_too.url]},
            {"served_name": "org/embed", "worker_urls": [embed.url]},
            {"worker_urls": [speech.url]},
            policy="round-robin",
        ) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        await eventually(lambda: is_ready(server, 4))
        yield Served(chat, chat_too, embed, speech, client)


@pytest.fixture
def served(running: Served) -> Served:
    for engine in (running.chat, running.chat_too, running.embed, running.speech):
        engine.begin_anew()
    return running


@pytest.mark.parametrize(
    ("model", "engine"),
    [("org/embed", "embed"), ("speech", "speech"), ("chat-alias", "chat_too"), ("chat-lora", "chat_too")],
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/v2/embed", "/v1/brand/new"])
async def test_a_body_goes_to_the_model_it_names(served: Served, model: str, engine: str, path: str) -> None:
    for _ in range(2):
        answer = await ask(served.client, path, {"model": model, "input": "x"})
        assert answer.status == 200
    assert served.seen_by() == [engine, engine]


async def test_a_model_of_two_workers_uses_both(served: Served) -> None:
    for _ in range(2):
        assert (await ask(served.client, CHAT, HELLO | {"model": "chat"})).status == 200
    assert served.seen_by() == ["chat", "chat_too"]


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, "/v1/audio/translations", "/v1/files"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_form_goes_to_the_model_that_its_field_names(served: Served, path: str, *, is_first: bool) -> None:
    form = aiohttp.FormData()
    if is_first:
        form.add_field("model", "speech")
    form.add_field("file", bytes(range(256)) * 400, filename="a.wav", content_type="audio/wav")
    if not is_first:
        form.add_field("model", "speech")
    async with served.client.post(path, data=form) as response:
        assert response.status == 200
        body = await response.read()
    (seen,) = served.speech.seen
    assert seen.body == body
    assert bytes(range(256)) * 400 in body
    assert served.seen_by() == ["speech"]


async def test_a_form_that_names_an_unknown_model_is_404_and_one_that_names_none_is_400(served: Served) -> None:
    for field, status, code in (("model", 404, "model_not_found"), ("language", 400, "missing_model")):
        form = aiohttp.FormData()
        form.add_field("file", b"sound", filename="a.wav")
        form.add_field(field, "made-up")
        async with served.client.post(TRANSCRIPTIONS, data=form) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["param"]) == (status, code, "model")
    assert served.seen_by() == []


async def test_a_body_that_names_no_model_is_refused_with_those_served(served: Served) -> None:
    answer = await ask(served.client, CHAT, {"messages": HELLO["messages"]})
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, "missing_model", "model")
    assert all(name in error["message"] for name in ("chat", "org/embed", "speech"))


async def test_the_listing_is_that_of_all(served: Served) -> None:
    listing = json.loads((await ask(served.client, "/v1/models", method="GET")).body)
    assert sorted(model["id"] for model in listing["data"]) == [
        "chat",
        "chat-alias",
        "chat-lora",
        "org/embed",
        "speech",
    ]
    for model in ("org/embed", "chat-lora"):
        answer = await ask(served.client, f"/v1/models/{model}", method="GET")
        assert json.loads(answer.body)["id"] == model


async def test_metrics_name_each_model_and_no_other(served: Served) -> None:
    before = await metrics(served.client)
    await ask(served.client, "/pooling", {"model": "org/embed"})
    await ask(served.client, "/pooling", {"model": "made-up"})
    after = await metrics(served.client)
    labels = {"endpoint": "/pooling", "outcome": "completed", "model": "org/embed"}
    name = "wattline_requests_total"
    assert after.total(name, **labels) - before.total(name, **labels) == 1
    assert after.total(name, model="made-up") == 0


# -- responses that are kept ---------------------------------------------------------------------------------------


def made(response_id: str) -> bytes:
    return json.dumps({"id": response_id, "object": "response", "status": "queued", "output": []}).encode()


def created(response_id: str) -> list[bytes]:
    event = {"type": "response.created", "response": {"id": response_id, "object": "response"}}
    return [f"event: response.created\ndata: {json.dumps(event)}\n\n".encode(), b"data: [DONE]\n\n"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_is_asked_for_where_it_was_made(served: Served, *, streamed: bool) -> None:
    for engine, name in ((served.chat, "a"), (served.chat_too, "b")):
        response_id = f"resp_{name}{streamed:d}"
        engine.script = stream(created(response_id)) if streamed else whole(made(response_id))
    for _ in range(2):
        answer = await ask(served.client, "/v1/responses", {"model": "chat", "input": "x", "stream": streamed})
        assert answer.status == 200
    for engine, name in ((served.chat, "a"), (served.chat_too, "b")):
        path = f"/v1/responses/resp_{name}{streamed:d}"
        engine.begin_anew()
        other = served.chat_too if engine is served.chat else served.chat
        other.begin_anew()
        assert (await ask(served.client, path, method="GET")).status == 200
        assert (await ask(served.client, f"{path}/cancel", method="POST")).status == 200
        assert (await ask(served.client, path, method="DELETE")).status == 200
        assert [(seen.method, seen.target) for seen in engine.seen] == [
            ("GET", path),
            ("POST", f"{path}/cancel"),
            ("DELETE", path),
        ]
        assert other.seen == []


# -- while nobody is there -----------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aiohttp.ClientSession]:
    """A server whose workers never come."""
    folder = tmp_path_factory.mktemp("server")
    async with (
        several(
            folder,
            {"served_name": "chat", "worker_urls": [f"unix:{folder}/nobody.sock"]},
            {"worker_urls": [f"unix:{folder}/none.sock"]},
            queue_timeout_seconds=1,
        ) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        yield client


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_a_route_that_does_not_exist_is_404_all_the_same(empty: aiohttp.ClientSession, method: str) -> None:
    for path in ("/v1/no/such/route", "/v1/chat/completion", "/v1/responses/a/b/c"):
        answer = await ask(empty, path, {"model": "chat"} if method == "POST" else None, method=method)
        assert (answer.status, answer.error()["code"]) == (404, "not_found")
        assert path in answer.error()["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", "/v1/embeddings", "POST"),
        ("OPTIONS", "/tokenize", "POST"),
        ("POST", "/v1/responses/resp_1", "DELETE, GET"),
        ("GET", "/v1/responses/resp_1/cancel", "POST"),
        ("POST", "/v1/models", "GET"),
    ],
)
async def test_a_wrong_method_is_405_all_the_same(
    empty: aiohttp.ClientSession, method: str, path: str, allow: str
) -> None:
    answer = await ask(empty, path, method=method)
    assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allow


async def test_a_model_that_is_configured_is_waited_for_and_another_is_not(empty: aiohttp.ClientSession) -> None:
    waiting, unknown = await asyncio.gather(
        ask(empty, CHAT, HELLO | {"model": "chat"}), ask(empty, CHAT, HELLO | {"model": "other"})
    )
    assert (waiting.status, waiting.error()["code"]) == (503, "queue_timeout")
    assert (unknown.status, unknown.error()["code"]) == (404, "model_not_found")
    assert (await ask(empty, "/v1/models", method="GET")).status == 503
    assert (await ask(empty, "/v1/responses/resp_1", method="GET")).status == 503
