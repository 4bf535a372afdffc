"""An engine that measures nothing is served too: its energy is null with the reason, never zero and never missing."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.integration.http_answers import CHAT, HELLO, ask, metrics
from tests.integration.processes import front_end
from tests.integration.scripted_engine import MODEL, ScriptedEngine, scripted_engine, stream, whole

BODY = '{"id": "x",  "choices":[{"message":{"content":"Grüße, \\"energy\\":{} and }"}}]}\n'.encode()
UNKNOWN = {
    "energy_joules": None,
    "source": None,
    "measured": False,
    "reason": "worker remote-0 does not measure energy",
}
EVENTS = (
    'data: {"choices":[{"delta":{"content":"Gr"}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"üße \\n\\ndata: [DONE] 😀"}}]}\n\n'
    ": a comment\n\n"
    'event: message\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
).encode()
DONE = b"data: [DONE]\n\n"
QUEUE_SECONDS = re.compile(rb',"queue_seconds":[0-9.e-]+')
COMMENT = b": energy " + json.dumps(UNKNOWN, separators=(",", ":")).encode() + b"\n\n"


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


def without_wait(body: bytes) -> bytes:
    """The body less what the front end knows of the wait, which no two requests share."""
    assert QUEUE_SECONDS.search(body) is not None
    return QUEUE_SECONDS.sub(b"", body)


def request(*, streamed: bool) -> dict[str, object]:
    return HELLO | {"model": MODEL, "stream": streamed}


async def test_a_whole_answer_gains_one_key_and_loses_nothing(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    upstream.script = whole(BODY)
    answer = await ask(client, CHAT, request(streamed=False))
    assert without_wait(answer.body) == BODY[:-2] + b',"energy":' + COMMENT[len(b": energy ") : -2] + b"}\n"
    block = answer.json()["energy"]
    assert block == UNKNOWN | {"queue_seconds": block["queue_seconds"]}
    assert answer.json() == json.loads(BODY) | {"energy": block}
    page = await metrics(client)
    assert page.total("wattline_requests_total", model=MODEL, outcome="completed") == 1
    assert page.total("wattline_tenant_energy_joules_total") == 0
    assert page.total("wattline_request_energy_joules_count") == 0, "what is not known is not observed as zero"


async def test_a_stream_gains_a_comment_before_its_end_wherever_it_was_cut(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    text = EVENTS + DONE
    for size in (1, 2, 3, 7, 64, len(text) - 1, len(text)):
        upstream.script = stream([text[at : at + size] for at in range(0, len(text), size)])
        answer = await ask(client, CHAT, request(streamed=True))
        assert without_wait(answer.body) == EVENTS + COMMENT + DONE, f"in pieces of {size} bytes"
        assert answer.energy().items() > UNKNOWN.items()


async def test_the_usage_chunk_gains_the_key_too(client: aiohttp.ClientSession, upstream: ScriptedEngine) -> None:
    usage = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
    upstream.script = stream([EVENTS + usage[:20], usage[20:] + DONE])
    answer = await ask(client, CHAT, request(streamed=True))
    assert json.loads(answer.events()[-3].removeprefix("data: "))["energy"].items() > UNKNOWN.items()
    assert answer.energy().items() > UNKNOWN.items()


@pytest.mark.parametrize("separator", [b"\n\n", b"\r\n\r\n"])
async def test_events_pass_as_soon_as_they_are_whole(
    client: aiohttp.ClientSession, upstream: ScriptedEngine, separator: bytes
) -> None:
    go = asyncio.Event()
    pieces = [b'data: {"choices":[1]}' + separator + b"data: {", b"}" + separator + b"data: [DONE]" + separator]
    upstream.script = stream(pieces, go)
    async with asyncio.timeout(5), client.post(CHAT, json=request(streamed=True)) as response:
        first = await response.content.readline()
        assert first.rstrip() == b'data: {"choices":[1]}'
        go.set()
        rest = (first + await response.read()).replace(b"\r\n", b"\n")
    assert without_wait(rest) == b'data: {"choices":[1]}\n\ndata: {}\n\n' + COMMENT + DONE


async def test_an_engines_own_errors_stay_without_energy(
    client: aiohttp.ClientSession, upstream: ScriptedEngine
) -> None:
    async def script(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "type": "BadRequestError", "code": 400}}, status=400)

    upstream.script = script
    answer = await ask(client, CHAT, request(streamed=False))
    assert (answer.status, answer.error()["code"], answer.error()["message"]) == (400, "invalid_request", "no")
