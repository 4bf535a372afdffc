"""What an engine answers reaches the caller as it is: the front end adds headers and changes no byte."""

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, COMPLETIONS, HELLO, PROMPT, ask
from tests.integration.processes import EngineProcess, front_end
from tests.integration.recording_relay import recording_relay

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, HELLO | {"max_tokens": 3}),
    "chat-choices": (CHAT, HELLO | {"max_tokens": 2, "n": 3}),
    "completion": (COMPLETIONS, PROMPT | {"max_tokens": 3}),
    "chat-stream": (CHAT, HELLO | {"max_tokens": 9, "stream": True}),
    "chat-stream-usage": (CHAT, HELLO | {"max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}}),
    "completion-stream": (COMPLETIONS, PROMPT | {"max_tokens": 9, "stream": True}),
}
QUEUE_SECONDS = re.compile(rb',"queue_seconds":[0-9.e-]+')


@pytest.mark.parametrize("piece_bytes", [65536, 7])
async def test_bodies_are_the_engines_byte_for_byte(engine: EngineProcess, tmp_path: Path, piece_bytes: int) -> None:
    async with (
        recording_relay(engine.uds, tmp_path / "relay.sock", piece_bytes) as relay,
        front_end(tmp_path, relay.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        for name, (path, body) in CASES.items():
            answer = await ask(client, path, body, headers={"X-Request-Id": name})
            assert answer.status == 200
            told = relay.bodies[name].replace(b'"service_tier":null', b'"service_tier":"default"')
            ours = QUEUE_SECONDS.sub(b"", answer.body)
            assert ours != answer.body
            assert ours == told, f"{name}: no byte is changed but for the tier and the wait, which only we know"
            assert answer.headers["X-Request-Id"] == name
            assert answer.energy()["source"] == "estimate"


async def test_headers_of_a_whole_answer_tell_its_energy(client: aiohttp.ClientSession) -> None:
    answer = await ask(client, CHAT, HELLO | {"max_tokens": 2})
    assert answer.headers["X-Energy-Joules"] == f"{answer.energy()['energy_joules']:f}"
    assert answer.headers["X-Energy-Source"] == "estimate"
    assert answer.headers["Content-Type"] == "application/json"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert "Transfer-Encoding" not in answer.headers


async def test_a_stream_is_neither_cached_nor_buffered(client: aiohttp.ClientSession) -> None:
    answer = await ask(client, CHAT, HELLO | {"max_tokens": 2, "stream": True})
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers


async def test_tokens_arrive_while_the_engine_still_makes_others(
    client: aiohttp.ClientSession, engine: EngineProcess
) -> None:
    async with client.post(CHAT, json=HELLO | {"max_tokens": 30, "stream": True}) as response:
        assert (await response.content.readline()).startswith(b"data: ")
        assert await engine.runs(1)
        rest = await response.read()
    assert rest.count(b"data: ") == 30 + 1
    assert await engine.runs(0)
