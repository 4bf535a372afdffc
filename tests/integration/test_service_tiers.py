"""What a request says of its own urgency: tiers, deadlines, and lengths that no waiting can help."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.http_answers import CHAT, COMPLETIONS, HELLO, PROMPT, Answer, ask, metrics
from tests.integration.processes import EngineProcess, FrontEnd, eventually, fake_engine, front_end
from tests.integration.scripted_engine import MODEL, scripted_engine, whole

RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
CONTEXT_TOKENS = 1000
TIER = "x-wattline-service-tier"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EngineProcess]:
    arguments = ("--decode-tokens-per-second", "50", "--max-model-len", str(CONTEXT_TOKENS))
    async with fake_engine(tmp_path_factory.mktemp("engine"), *arguments) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontEnd]:
    """One place, so that whatever comes second waits."""
    async with front_end(
        tmp_path_factory.mktemp("server"), engine.url, max_running_requests=1, flex_wait_seconds=2
    ) as running:
        yield running


@contextlib.asynccontextmanager
async def all_places_taken(client: aiohttp.ClientSession, engine: EngineProcess) -> AsyncIterator[None]:
    running = asyncio.create_task(ask(client, CHAT, HELLO | {"max_tokens": 900, "stream": True}))
    try:
        await eventually(lambda: engine.runs(1))
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await eventually(lambda: engine.runs(0))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
async def test_an_unknown_tier_is_400_and_the_accepted_ones_are_named(
    client: aiohttp.ClientSession, path: str, *, stream: bool
) -> None:
    answer = await ask(client, path, HELLO | PROMPT | {"service_tier": "turbo", "stream": stream})
    error = answer.error()
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_service_tier", "service_tier")
    assert error["type"] == "invalid_request_error"
    for name in ("auto", "default", "flex", "priority"):
        assert name in error["message"]
    assert ("standard_only" in error["message"]) == (path == MESSAGES)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "used"),
    [(None, "default"), ("auto", "default"), ("flex", "flex"), ("priority", "priority"), ("scale", "priority")],
)
async def test_the_answer_says_which_tier_it_was_given(
    client: aiohttp.ClientSession, name: str | None, used: str, *, stream: bool
) -> None:
    answer = await ask(client, CHAT, HELLO | {"service_tier": name, "stream": stream, "max_tokens": 2})
    assert (answer.status, answer.headers[TIER]) == (200, used)
    assert answer.energy()["energy_joules"] >= 0
    if not stream:
        assert answer.json()["service_tier"] == used
    requests = (await metrics(client)).total("wattline_requests_total", tier=used, outcome="completed")
    assert requests >= 1


async def test_the_engine_is_sent_a_tier_that_it_knows_and_told_which_it_is(tmp_path: Path) -> None:
    async with (
        scripted_engine() as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        engine.script = whole(b'{"service_tier":"default","metadata":{"service_tier":"auto"},"usage":{}}')
        sent = {"model": MODEL, "input": "hello", "metadata": {"service_tier": "auto"}, "service_tier": "auto"}
        answer = await ask(client, RESPONSES, sent)
        assert json.loads(engine.seen[-1].body) == sent | {"service_tier": "default"}
        assert answer.json()["service_tier"] == "default"
        assert answer.json()["metadata"] == {"service_tier": "auto"}
        chat = json.dumps({"model": MODEL, "messages": HELLO["messages"], "service_tier": "flex"}).encode()
        await ask(client, CHAT, chat)
        assert engine.seen[-1].body == chat, "no byte is changed where the engine need not be told"
        messages = {"model": MODEL, "messages": HELLO["messages"], "service_tier": "standard_only", "max_tokens": 1}
        assert (await ask(client, MESSAGES, messages)).headers[TIER] == "default"


async def refused_at_once(client: aiohttp.ClientSession, *arguments: Any, **options: Any) -> Answer:
    asked_at_seconds = time.monotonic()
    answer = await ask(client, *arguments, **options)
    assert time.monotonic() - asked_at_seconds < 2
    return answer


@pytest.mark.parametrize(
    "headers",
    [{"X-Deadline-Seconds": "0"}, {"X-Deadline-Seconds": "-5"}, {"X-Deadline-Unix-Seconds": "1700000000"}],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_that_is_past_is_refused_at_once_and_for_good(
    client: aiohttp.ClientSession, headers: dict[str, str], *, stream: bool
) -> None:
    answer = await refused_at_once(client, CHAT, HELLO | {"stream": stream}, headers=headers)
    assert (answer.status, answer.error()["code"]) == (408, "deadline_passed")
    assert "deadline" in answer.error()["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_a_deadline_that_is_to_come_is_kept(client: aiohttp.ClientSession, engine: EngineProcess) -> None:
    in_time = await ask(client, CHAT, HELLO | {"max_tokens": 1}, headers={"X-Deadline-Seconds": "30"})
    assert in_time.status == 200
    async with all_places_taken(client, engine):
        late = await refused_at_once(client, CHAT, HELLO, headers={"X-Deadline-Seconds": "0.2"})
        assert (late.status, late.error()["code"]) == (408, "deadline_passed")


@pytest.mark.parametrize("name", ["X-Deadline-Seconds", "X-Deadline-Unix-Seconds"])
async def test_a_deadline_that_is_no_number_is_400(client: aiohttp.ClientSession, name: str) -> None:
    answer = await ask(client, CHAT, HELLO, headers={name: "tomorrow"})
    assert (answer.status, answer.error()["code"]) == (400, "invalid_deadline")
    assert answer.error()["message"].startswith(f"{name}: expected ")


TOO_LONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": (CHAT, {"messages": [{"role": "user", "content": "word " * CONTEXT_TOKENS}]}, "messages"),
    "text": (COMPLETIONS, {"prompt": "word " * CONTEXT_TOKENS}, "prompt"),
    "ids": (COMPLETIONS, {"prompt": [1] * (CONTEXT_TOKENS + 1)}, "prompt"),
    "responses": (RESPONSES, {"input": "word " * CONTEXT_TOKENS}, "input"),
    "messages": (MESSAGES, {"messages": [{"role": "user", "content": "word " * CONTEXT_TOKENS}]}, "messages"),
    "output": (COMPLETIONS, {"prompt": "x" * 800, "max_tokens": CONTEXT_TOKENS - 199}, "prompt"),
}


@pytest.mark.parametrize("tier", ["default", "flex"])
@pytest.mark.parametrize("which", TOO_LONG)
async def test_a_prompt_that_cannot_fit_is_refused_at_once_even_where_it_would_wait(
    client: aiohttp.ClientSession, engine: EngineProcess, which: str, tier: str
) -> None:
    path, body, param = TOO_LONG[which]
    async with all_places_taken(client, engine):
        answer = await refused_at_once(client, path, body | {"model": "fake", "service_tier": tier})
        error = answer.error()
        assert (answer.status, error["code"], error["param"]) == (400, "context_length_exceeded", param)
        assert f"{CONTEXT_TOKENS} tokens" in error["message"]
        assert (await metrics(client)).total("wattline_queue_requests") == 0


async def test_a_prompt_that_just_fits_is_served(client: aiohttp.ClientSession) -> None:
    # The fake takes four characters for a token.
    body = PROMPT | {"prompt": "x" * 4 * (CONTEXT_TOKENS - 1), "max_tokens": 1}
    answer = await ask(client, COMPLETIONS, body)
    assert (answer.status, answer.json()["usage"]["prompt_tokens"]) == (200, CONTEXT_TOKENS - 1)


async def test_every_tier_has_its_queue_on_the_metrics_page(client: aiohttp.ClientSession) -> None:
    page = (await ask(client, "/metrics", method="GET")).body.decode()
    for tier in ("priority", "default", "flex"):
        assert f'wattline_queue_requests{{tier="{tier}"}} 0.0' in page


async def test_the_scheduler_shows_its_state_and_why(client: aiohttp.ClientSession, engine: EngineProcess) -> None:
    await ask(client, CHAT, HELLO | {"max_tokens": 1})
    await ask(client, CHAT, HELLO, headers={"X-Deadline-Seconds": "0"})
    await ask(client, CHAT, HELLO | {"model": "a caller's own words"})
    async with all_places_taken(client, engine):
        waiting = asyncio.create_task(ask(client, CHAT, HELLO | {"service_tier": "flex", "max_tokens": 1}))
        await eventually(lambda: waits_in(client, "flex"))
        answer = await ask(client, "/v1/scheduler", method="GET")
        state = answer.json()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert answer.headers["Content-Type"] == "application/json"
    assert {name: float(seconds) for name, seconds in state["targets"].items()} == {
        "ttft_seconds": 1.0,
        "tpot_seconds": 0.05,
    }
    assert state["limits"]["max_queued_requests"] == 1024
    assert state["queued_requests_by_tier"] == {"priority": 0, "default": 0, "flex": 1}
    (worker,) = state["workers"]
    assert (worker["worker_id"], worker["state"], worker["running_requests"]) == ("remote-0", "ready", 1)
    assert sum(state["dispatches_by_reason"].values()) >= 2
    assert state["refusals_by_cause"]["deadline_passed"] >= 1
    refusals = [refusal["command"] for refusal in state["refusals"]]
    assert refusals[:2] == ["reject:unknown_model", "reject:deadline_passed"]
    assert abs(float(state["refusals"][0]["at_unix_seconds"]) - time.time()) < 60
    assert state["decisions"] == []
    assert "words" not in answer.body.decode(), "what callers wrote is nobody else's business"


async def test_the_terminal_says_what_the_scheduler_keeps_to(server: FrontEnd) -> None:
    assert "wattline: policy     energy, targets p99 TTFT 1 s, p99 TPOT 0.05 s" in server.output()


async def waits_in(client: aiohttp.ClientSession, tier: str) -> bool:
    return (await metrics(client)).total("wattline_queue_requests", tier=tier) == 1


async def test_the_scheduler_can_be_read_and_nothing_else(client: aiohttp.ClientSession) -> None:
    head = await ask(client, "/v1/scheduler", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for method in ("POST", "PUT", "DELETE"):
        answer = await ask(client, "/v1/scheduler", method=method)
        assert (answer.status, answer.error()["code"]) == (405, "method_not_allowed")
        assert "GET" in answer.headers["Allow"]
    assert (await ask(client, "/v1/scheduler/more", method="GET")).status == 404
    assert (await ask(client, "/v1/schedulers", method="GET")).status == 200, "the engines' own"
