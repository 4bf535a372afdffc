"""The fake engine over real sockets: what tests and benchmarks of the rest rely on."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.http_load import LoadSettings, chat_request, drive

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hello"}]}
DEADLINE_SECONDS = 10.0


class Running:
    """A running engine process and a client of it."""

    def __init__(self, uds: Path, process: asyncio.subprocess.Process, client: aiohttp.ClientSession) -> None:
        self.uds = uds
        self.process = process
        self.client = client

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Mapping[str, str], Any]:
        async with self.client.post(path, json=body, headers=headers) as response:
            return response.status, response.headers, await response.json()

    async def energy(self) -> dict[str, Any]:
        async with self.client.get("/energy") as response:
            telemetry: dict[str, Any] = await response.json()
            return telemetry

    async def stream_lines(self, path: str, body: dict[str, Any]) -> list[str]:
        """The events of a stream, without the blank lines between them."""
        async with self.client.post(path, json=body | {"stream": True}) as response:
            assert response.content_type == "text/event-stream"
            return (await response.text()).split("\n\n")[:-1]


@contextlib.asynccontextmanager
async def engine(folder: Path, *arguments: str) -> AsyncIterator[Running]:
    uds = folder / "engine.sock"
    command = [sys.executable, "-m", "workers.fake", "--uds", str(uds), "--die-with-parent", *arguments]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        await eventually(lambda: is_listening(uds))
        connector = aiohttp.UnixConnector(path=str(uds), limit=0)
        async with aiohttp.ClientSession("http://engine", connector=connector) as client:
            yield Running(uds, process, client)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest.fixture
async def instant(tmp_path: Path) -> AsyncIterator[Running]:
    async with engine(tmp_path) as running:
        yield running


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[Running]:
    async with engine(tmp_path, "--decode-tokens-per-second", "50") as running:
        yield running


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110  # another process cannot set our event
            await asyncio.sleep(0.01)


async def is_listening(uds: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(uds)) == 0


def parts_microjoules(energy: dict[str, Any]) -> int:
    accounts: dict[str, int] = energy["accounts_microjoules"]["cpu"]
    in_flight: dict[str, int] = energy["in_flight_microjoules"]["cpu"]
    return sum(accounts.values()) + sum(in_flight.values())


def raw_request(body: dict[str, Any], request_id: str = "raw") -> bytes:
    payload = json.dumps(HELLO | body).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {request_id}\r\n"
    return f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


async def test_plain_chat_has_openai_shape_and_ends_with_its_energy(instant: Running) -> None:
    body = HELLO | {"max_tokens": 3, "n": 2}
    status, headers, answer = await instant.post(CHAT, body, **{"X-Request-Id": "abc"})
    assert status == 200
    assert list(answer)[-1] == "energy"
    assert (answer["id"], headers["X-Request-Id"]) == ("chatcmpl-abc", "abc")
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["tok tok tok"] * 2
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
    assert (answer["energy"]["prompt_tokens"], answer["energy"]["output_tokens"]) == (2, 6)
    assert (answer["energy"]["source"], answer["energy"]["measured"]) == ("estimate", False)
    assert float(headers["X-Energy-Joules"]) == answer["energy"]["energy_joules"]
    assert headers["X-Energy-Source"] == "estimate"


async def test_prefill_and_decode_and_components_are_the_whole_energy(slow: Running) -> None:
    async with slow.client.post(CHAT, json=HELLO | {"max_tokens": 5}) as response:
        energy = json.loads(await response.text(), parse_float=Decimal)["energy"]
    assert energy["prefill_joules"] + energy["decode_joules"] == energy["energy_joules"]
    assert sum(energy["components_joules"].values()) == energy["energy_joules"]
    # Alone on the device, it owns all of its 50 watts for its 4 intervals of 20 ms.
    assert energy["attribution_ratio"] == 1
    assert energy["avg_power_watts"] == pytest.approx(Decimal(50), rel=Decimal("0.01"))
    assert energy["decode_joules"] >= Decimal("0.08") * 50


@pytest.mark.parametrize(("path", "prompt"), [(CHAT, HELLO), ("/v1/completions", {"prompt": "hello"})])
async def test_stream_ends_with_finish_usage_energy_done(instant: Running, path: str, prompt: dict[str, Any]) -> None:
    options = {"max_tokens": 300, "n": 2, "stream_options": {"include_usage": True}}
    *data, comment, done = await instant.stream_lines(path, prompt | options)
    chunks = [json.loads(line.removeprefix("data: ")) for line in data]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert reasons == [None] * 600 + ["length"] * 2
    texts = [
        choice.get("text", choice.get("delta", {}).get("content", ""))
        for chunk in chunks[:-1]
        if (choice := chunk["choices"][0])["index"] == 1
    ]
    assert "".join(texts) == " ".join(["tok"] * 300)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 600
    assert json.loads(comment.removeprefix(": energy ")) == chunks[-1]["energy"]
    assert done == "data: [DONE]"


async def test_stream_without_usage_has_only_chunks_with_a_choice(instant: Running) -> None:
    *data, comment, _ = await instant.stream_lines(CHAT, HELLO | {"max_tokens": 4})
    assert [len(json.loads(line.removeprefix("data: "))["choices"]) for line in data] == [1] * 5
    assert comment.startswith(": energy {")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (json.dumps(HELLO | {"model": "other"}).encode(), 404, "model_not_found"),
        (json.dumps(HELLO | {"max_tokens": 0}).encode(), 400, "invalid_value"),
        (b'{"messages":[{"role":"user","content":"%s"}]}' % (b"x" * 131_073), 400, "context_length_exceeded"),
    ],
)
async def test_refusals_have_openai_shape_and_use_no_energy(
    instant: Running, body: bytes, status: int, code: str
) -> None:
    async with instant.client.post(CHAT, data=body) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code"}
    assert (await instant.energy())["accounts_microjoules"]["cpu"]["prefill"] == 0


async def test_prompt_of_exactly_the_context_length_is_served(instant: Running) -> None:
    prompt = {"messages": [{"role": "user", "content": "x" * 131_072}]}
    status, _, answer = await instant.post(CHAT, prompt)
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 32_768)


async def test_other_paths_echo_what_arrived(instant: Running) -> None:
    async with instant.client.put("/v1/some/new%20thing?x=1", data=b"12345") as response:
        echo = await response.json()
    assert echo == {"object": "echo", "path": "/v1/some/new thing", "method": "PUT", "bytes": 5}
    async with instant.client.get("/elsewhere") as response:
        assert response.status == 404


@pytest.mark.parametrize(("status", "retry_after"), [(400, None), (429, "1"), (503, "1")])
async def test_fail_answers_the_status_it_was_asked_for(instant: Running, status: int, retry_after: str | None) -> None:
    async with instant.client.post(f"/v1/fail?status={status}", json={}) as response:
        assert response.status == status
        assert response.headers.get("Retry-After") == retry_after
        assert "error" in await response.json()


async def test_parts_sum_to_the_counter_while_requests_come_and_go(slow: Running) -> None:
    answers = [asyncio.create_task(slow.post(CHAT, HELLO | {"max_tokens": tokens})) for tokens in range(1, 24)]
    seen_running = 0
    while not all(answer.done() for answer in answers):
        energy = await slow.energy()
        assert parts_microjoules(energy) == energy["counter_microjoules"]
        seen_running = max(seen_running, energy["running_requests"])
        await asyncio.sleep(0.005)
    assert seen_running > 1
    energy = await slow.energy()
    charged = sum(
        request["prefill_microjoules"] + request["decode_microjoules"] for request in energy["recent_requests"]
    )
    accounts = energy["accounts_microjoules"]["cpu"]
    assert charged == accounts["prefill"] + accounts["decode"]
    annotated = sum(answer.result()[2]["energy"]["energy_joules"] for answer in answers)
    assert annotated == pytest.approx(charged / 1e6)
    assert energy["tokens_total"] == {"prompt": 23 * 2, "output": sum(range(1, 24))}


async def test_client_that_leaves_is_aborted_at_once_and_charged(slow: Running) -> None:
    body = HELLO | {"max_tokens": 1000, "stream": True}
    async with slow.client.post(CHAT, json=body, headers={"X-Request-Id": "gone"}) as response:
        await response.content.readline()
        assert (await slow.energy())["running_requests"] == 1
        response.close()
    await eventually(lambda: has_aborted(slow, 1))
    energy = await slow.energy()
    assert energy["running_requests"] == 0
    assert energy["tokens_total"]["output"] < 1000
    last = energy["recent_requests"][-1]
    assert (last["request_id"], last["outcome"]) == ("gone", "aborted")
    assert last["decode_microjoules"] > 0
    assert parts_microjoules(energy) == energy["counter_microjoules"]


async def has_aborted(running: Running, requests: int) -> bool:
    energy = await running.energy()
    return bool(energy["requests_total"]["aborted"] == requests)


@pytest.mark.parametrize(("stream", "tokens"), [(True, 0), (True, 5), (False, 5)])
async def test_staged_crash_cuts_the_answer_after_that_many_tokens(
    instant: Running, *, stream: bool, tokens: int
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(instant.uds))
    writer.write(raw_request({"max_tokens": 9, "stream": stream, "fake_crash_after_tokens": tokens}))
    received = await asyncio.wait_for(reader.read(), DEADLINE_SECONDS)
    writer.close()
    await writer.wait_closed()
    assert received.count(b"data: ") == (tokens if stream else 0)
    assert bool(received) == (stream and tokens > 0), "nothing at all may precede the first token"
    assert not received.endswith(b"0\r\n\r\n")
    assert (await instant.energy())["requests_total"] == {"completed": 0, "aborted": 1}


async def test_hanging_request_runs_without_tokens_while_health_answers(instant: Running) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(instant.post(CHAT, HELLO | {"fake_hang": True}), 0.2)
    reader, writer = await asyncio.open_unix_connection(str(instant.uds))
    writer.write(raw_request({"fake_hang": True}))
    await eventually(lambda: has_aborted(instant, 1))
    energy = await instant.energy()
    assert (energy["running_requests"], energy["tokens_total"]["output"]) == (1, 0)
    async with instant.client.get("/health") as response:
        assert response.status == 200
    assert not reader.at_eof()
    writer.close()
    await writer.wait_closed()


async def test_speeds_hold_for_each_sequence_however_many_run(tmp_path: Path) -> None:
    arguments = ("--prefill-tokens-per-second", "10", "--decode-tokens-per-second", "100")
    async with engine(tmp_path, *arguments) as running:
        answers = await asyncio.gather(*(running.post(CHAT, HELLO | {"max_tokens": 11}) for _ in range(4)))
    for _, _, answer in answers:
        # Two prompt tokens at 10/s, then ten more tokens after the first at 100/s.
        assert 0.29 <= answer["energy"]["duration_seconds"] < 0.6


async def test_stream_waits_for_a_client_that_does_not_read(instant: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(str(instant.uds), limit=1024)
    writer.write(raw_request({"max_tokens": 30_000, "stream": True}))
    await reader.readline()
    produced = [-1, 0]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while produced[-1] == 0 or produced[-2] != produced[-1]:  # until what lies between the two is full
            await asyncio.sleep(0.3)
            energy = await instant.energy()
            produced.append(energy["tokens_total"]["output"])
    assert energy["running_requests"] == 1
    assert produced[-1] < 20_000
    chunks = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        while b"[DONE]" not in (line := await reader.readline()):
            chunks += line.startswith(b"data: ")
    assert chunks == 30_001
    writer.close()
    await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order(slow: Running) -> None:
    _, writer = connection = await asyncio.open_unix_connection(str(slow.uds))
    lengths = [6, 1, 3] * 4
    writer.write(b"".join(raw_request({"max_tokens": n}, f"{i}") for i, n in enumerate(lengths)))
    ids: list[str] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(ids) < len(lengths):
            line = await connection[0].readline()
            if line.startswith(b"X-Request-Id: "):
                ids.append(line.split()[1].decode())
    assert ids == [str(index) for index in range(len(lengths))]
    writer.close()
    await writer.wait_closed()


async def test_loading_time_is_the_loading_account(tmp_path: Path) -> None:
    started_at_seconds = time.monotonic()
    async with engine(tmp_path, "--startup-seconds", "0.5", "--active-watts", "40") as running:
        assert time.monotonic() - started_at_seconds >= 0.5
        loading = (await running.energy())["accounts_microjoules"]["cpu"]["loading"]
    assert loading == pytest.approx(0.5 * 40e6, rel=0.2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_the_engine_promptly_with_work_in_hand(slow: Running, number: int) -> None:
    _, writer = await asyncio.open_unix_connection(str(slow.uds))
    writer.write(raw_request({"fake_hang": True}))
    slow.process.send_signal(number)
    assert await asyncio.wait_for(slow.process.wait(), 2) == 0
    assert not slow.uds.exists()
    writer.close()


async def test_engine_ends_with_its_parent(tmp_path: Path) -> None:
    uds = tmp_path / "engine.sock"
    command = [sys.executable, "-m", "workers.fake", "--uds", str(uds), "--die-with-parent"]
    script = f"import subprocess; subprocess.run({command!r})"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    await eventually(lambda: is_listening(uds))
    parent.kill()
    await parent.wait()

    async def is_gone() -> bool:
        return not await is_listening(uds)

    await eventually(is_gone)


async def test_load_client_counts_what_the_engine_counts(instant: Running) -> None:
    url = f"unix:{instant.uds}"
    request = chat_request(url, model="fake", max_tokens=8, stream=True)
    result = await drive(LoadSettings(url, request, connections=4, seconds=DEADLINE_SECONDS, requests=50))
    assert (result.requests, result.errors, result.chunks) == (50, 0, 50 * 10)
    assert (await instant.energy())["requests_total"]["completed"] == 50
    assert result.seconds < DEADLINE_SECONDS


async def test_load_client_ends_on_time_and_counts_failures(instant: Running, tmp_path: Path) -> None:
    url = f"unix:{instant.uds}"
    refused = await drive(LoadSettings(url, chat_request(url, model="no", max_tokens=1), 2, 5.0, 20))
    assert (refused.requests, refused.errors) == (0, 20)
    nobody = f"unix:{tmp_path}/nobody.sock"
    started_at_seconds = time.monotonic()
    result = await drive(LoadSettings(nobody, b"", connections=2, seconds=0.2))
    assert result.errors > 0
    assert result.latency_p50_seconds is None
    assert time.monotonic() - started_at_seconds < 1


async def test_it_tells_what_it_has_done(slow: Running) -> None:
    before = (await slow.energy())["work"]
    assert set(before) == {
        "steps_total",
        "step_seconds_total",
        "decode_tokens_total",
        "prefill_tokens_total",
        "loading_seconds",
        "kv_cache_usage_ratio",
    }
    assert (before["steps_total"], before["step_seconds_total"]) == (0, 0.0)
    body = HELLO | {"max_tokens": 26, "n": 2}
    whole = asyncio.create_task(slow.post(CHAT, body))
    streamed = asyncio.create_task(slow.stream_lines(CHAT, body))
    await asyncio.sleep(0.2)
    during = (await slow.energy())["work"]
    assert 0 < during["steps_total"] < 26
    assert 0 < during["decode_tokens_total"] < 100, "an answer that comes in one piece advances all the same"
    await asyncio.gather(whole, streamed)
    after = (await slow.energy())["work"]
    assert after["prefill_tokens_total"] == 4
    assert after["decode_tokens_total"] == 2 * 2 * 25
    # Two prompts, and 25 steps at 50 a second that both took part in, give or take a late timer.
    assert 27 <= after["steps_total"] <= 32
    assert 0.5 <= after["step_seconds_total"] <= 0.65
    assert (await slow.energy())["work"] == after, "nothing more is done"
