"""An engine that answers, but with an error of its own: another may do better, as long as no byte has been sent."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration.http_answers import CHAT, ask, metrics
from tests.integration.processes import eventually, front_end
from tests.integration.scripted_engine import MODEL, Script, ScriptedEngine, scripted_engine, stream, whole

HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
DEAD: dict[str, Any] = {"message": "the core is dead", "type": "InternalServerError", "param": None, "code": 500}
ERROR_EVENT = b"data: " + json.dumps({"error": DEAD}).encode() + b"\n\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"well"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAMED = stream([TOKEN, DONE])
FAILS_IN_STREAM = stream([ERROR_EVENT + DONE])


def with_health(status: int, script: Script) -> Script:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status) if request.path == "/health" else await script(request)

    return answer


def failing(status: int) -> Script:
    async def script(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": DEAD | {"code": status}}, status=status)

    return script


def asked(engine: ScriptedEngine) -> list[str]:
    return [request.target for request in engine.seen if request.target != "/health"]


@pytest.mark.parametrize(
    ("script", "is_stream"), [(failing(500), False), (failing(503), True), (FAILS_IN_STREAM, True)]
)
@pytest.mark.parametrize("health", [200, 404, 503])
async def test_an_engines_own_error_is_tried_elsewhere_before_the_first_byte(
    tmp_path: Path, script: Script, health: int, *, is_stream: bool
) -> None:
    async with (
        scripted_engine() as broken,
        scripted_engine() as well,
        front_end(tmp_path, broken.url, well.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
        asyncio.timeout(8),
    ):
        broken.script = with_health(health, script)
        well.script = STREAMED if is_stream else whole(b'{"choices":[]}')
        answers = [await ask(client, CHAT, HELLO | {"stream": is_stream}) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        assert len(asked(broken)) >= 1
        assert len(asked(well)) == 3
        page = await metrics(client)
        assert page.total("wattline_requests_total", outcome="completed") == 3
        assert page.total("wattline_dispatches_total", reason="retry") == len(asked(broken))


@pytest.mark.parametrize("status", [400, 404, 422, 429, 501])
async def test_what_another_engine_would_say_too_is_not_asked_again(tmp_path: Path, status: int) -> None:
    async with (
        scripted_engine() as first,
        scripted_engine() as second,
        front_end(tmp_path, first.url, second.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        first.script = second.script = failing(status)
        assert (await ask(client, CHAT, HELLO)).status == status
        assert len(asked(first)) + len(asked(second)) == 1


async def test_when_all_engines_fail_the_last_ones_word_is_passed_on(tmp_path: Path) -> None:
    async with (
        scripted_engine() as first,
        scripted_engine() as second,
        front_end(tmp_path, first.url, second.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
        asyncio.timeout(5),
    ):
        first.script = second.script = with_health(200, failing(500))
        answer = await ask(client, CHAT, HELLO)
        assert (answer.status, answer.error()["message"]) == (500, DEAD["message"])
        first.script = second.script = with_health(200, FAILS_IN_STREAM)
        streamed = await ask(client, CHAT, HELLO | {"stream": True})
        assert streamed.body.startswith(ERROR_EVENT)
        assert (len(asked(first)), len(asked(second))) == (2, 2)
        assert (await metrics(client)).total("wattline_requests_total", outcome="failed") == 2


@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_only_engines_error_is_passed_on_at_once(tmp_path: Path, *, is_stream: bool) -> None:
    async with (
        scripted_engine() as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
        asyncio.timeout(5),
    ):
        engine.script = with_health(200, FAILS_IN_STREAM if is_stream else failing(500))
        answer = await ask(client, CHAT, HELLO | {"stream": is_stream})
        assert answer.status == (200 if is_stream else 500)
        assert DEAD["message"].encode() in answer.body
        assert len(asked(engine)) == 1


async def test_the_only_engine_that_says_it_has_died_is_given_up_and_its_request_waits_for_it(tmp_path: Path) -> None:
    async with (
        scripted_engine() as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
        asyncio.timeout(15),
    ):
        well = with_health(200, whole(b'{"choices":[]}'))

        async def dies_once(request: web.Request) -> web.StreamResponse:
            if request.path == "/health":
                engine.script = well
                return web.Response(status=503)
            return await failing(500)(request)

        engine.script = dies_once
        assert (await ask(client, CHAT, HELLO)).status == 200
        assert (await metrics(client)).total("wattline_worker_restarts_total") == 1


async def test_an_engine_that_is_silent_about_its_health_keeps_its_other_requests(tmp_path: Path) -> None:
    async with (
        scripted_engine() as slow,
        scripted_engine() as well,
        front_end(tmp_path, slow.url, well.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
    ):

        async def script(request: web.Request) -> web.StreamResponse:
            if request.path == "/health":
                await asyncio.sleep(3.0)
            return await failing(500)(request)

        slow.script, well.script = script, whole(b'{"choices":[]}')
        assert [(await ask(client, CHAT, HELLO)).status for _ in range(2)] == [200] * 2
        assert (await metrics(client)).total("wattline_worker_restarts_total") == 0


async def test_what_does_not_run_the_engine_may_change_it_and_is_never_repeated(tmp_path: Path) -> None:
    async with (
        scripted_engine() as first,
        scripted_engine() as second,
        front_end(tmp_path, first.url, second.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        first.script = second.script = with_health(200, failing(500))
        assert (await ask(client, "/v1/load_lora_adapter", {"model": MODEL})).status == 500
        assert len(asked(first)) + len(asked(second)) == 1


async def test_an_engines_error_in_mid_stream_is_passed_on_and_counted_as_a_failure(tmp_path: Path) -> None:
    async with (
        scripted_engine() as first,
        scripted_engine() as second,
        front_end(tmp_path, first.url, second.url, policy="round-robin") as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        first.script = second.script = stream([TOKEN, ERROR_EVENT, DONE])
        answer = await ask(client, CHAT, HELLO | {"stream": True})
        assert answer.body.startswith(TOKEN + ERROR_EVENT)
        assert len(asked(first)) + len(asked(second)) == 1
        page = await metrics(client)
        assert page.total("wattline_requests_total", outcome="failed") == 1


async def test_a_caller_that_leaves_upon_an_error_in_mid_stream_saw_a_failure(tmp_path: Path) -> None:
    goes_on = asyncio.Event()
    async with (
        scripted_engine() as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        engine.script = stream([TOKEN, ERROR_EVENT, DONE], goes_on)
        async with client.post(CHAT, json=HELLO | {"stream": True}) as response:
            while b'"error"' not in await response.content.readline():
                pass
            response.close()

        async def is_counted() -> bool:
            return (await metrics(client)).total("wattline_requests_total", outcome="failed") == 1

        await eventually(is_counted)
        goes_on.set()
