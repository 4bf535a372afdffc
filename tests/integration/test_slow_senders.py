"""Who begins a request and does not go on is told so and let go; who is only slow is served."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.http_answers import HELLO
from tests.integration.processes import EngineProcess, FrontEnd, front_end

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIMEOUT_SECONDS = 0.4
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strict(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontEnd]:
    async with front_end(
        tmp_path_factory.mktemp("strict"),
        engine.url,
        head_timeout_seconds=TIMEOUT_SECONDS,
        body_stall_seconds=TIMEOUT_SECONDS,
        keep_alive_seconds=1,
        max_body_bytes=100_000,
    ) as running:
        yield running


class Caller:
    """A connection to the server, of which every byte is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._begun_at_seconds = time.monotonic()

    async def send(self, *parts: bytes, pause_seconds: float = 0.0) -> None:
        """Send until the server does not want more."""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                self._writer.write(part)
                await self._writer.drain()
                await asyncio.sleep(pause_seconds)

    async def rest(self) -> bytes:
        """Everything that comes until the server closes, which it must."""
        async with asyncio.timeout(5):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    async def answer(self) -> bytes:
        return await self._reader.readuntil(b"\r\n\r\n")

    def seconds(self) -> float:
        return time.monotonic() - self._begun_at_seconds


@contextlib.asynccontextmanager
async def calling(server: FrontEnd) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def is_timeout(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert b"connection: close" in head
    return head.startswith(b"HTTP/1.1 408 Request Timeout") and error["code"] == "request_timeout"


async def test_a_connection_that_says_nothing_is_closed_without_a_word(strict: FrontEnd) -> None:
    async with calling(strict) as caller:
        assert await caller.rest() == b""


async def test_a_head_that_does_not_end(strict: FrontEnd) -> None:
    async with calling(strict) as caller:
        await caller.send(b"POST /v1/chat/completions HTTP/1.1\r\nHos")
        assert is_timeout(await caller.rest())


async def test_a_head_that_drips(strict: FrontEnd) -> None:
    async with calling(strict) as caller, asyncio.TaskGroup() as group:
        group.create_task(caller.send(HEALTH[:4], *[b"a"] * 20, pause_seconds=0.05))
        assert is_timeout(await caller.rest())
        assert caller.seconds() < 2 * TIMEOUT_SECONDS


@pytest.mark.parametrize("sent", [b"", b'{"model":'])
async def test_a_body_that_stops_coming(strict: FrontEnd, sent: bytes) -> None:
    async with calling(strict) as caller:
        await caller.send(HEAD % 1000 + sent)
        assert is_timeout(await caller.rest())


async def test_a_body_that_comes_slowly_is_served(strict: FrontEnd) -> None:
    body = json.dumps(HELLO | {"max_tokens": 1}).encode()
    parts = [body[at : at + 10] for at in range(0, len(body), 10)]
    async with calling(strict) as caller:
        await caller.send(HEAD % len(body), *parts, pause_seconds=0.15)
        assert caller.seconds() > 2 * TIMEOUT_SECONDS
        assert (await caller.answer()).startswith(b"HTTP/1.1 200")


async def test_an_answer_may_take_longer_than_either(strict: FrontEnd) -> None:
    """50 tokens a second: a second; and the beginning of another request waits behind it, unblamed."""
    body = json.dumps(HELLO | {"max_tokens": 50, "stream": True}).encode()
    async with calling(strict) as caller:
        await caller.send(HEAD % len(body) + body, b"GET /hea")
        answer = await caller.rest()
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.index(b"data: [DONE]") < answer.index(b"HTTP/1.1 408"), "its own time begins after the answer"


async def test_a_request_refused_unread_is_not_answered_twice(strict: FrontEnd) -> None:
    async with calling(strict) as caller:
        await caller.send(HEAD % 100_001 + b"{")
        answer = await caller.rest()
    assert answer.startswith(b"HTTP/1.1 413")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_connection_is_kept_for_its_time_and_line_breaks_do_not_prolong_it(strict: FrontEnd) -> None:
    async with calling(strict) as silent, calling(strict) as talkative, asyncio.TaskGroup() as group:
        for caller in (silent, talkative):
            await caller.send(HEALTH)
            assert (await caller.answer()).startswith(b"HTTP/1.1 200")
        group.create_task(talkative.send(*[b"\r\n"] * 20, pause_seconds=0.05))
        await talkative.rest()
        assert talkative.seconds() < 0.9
        assert b"HTTP/1.1 " not in await silent.rest()
        assert 0.9 < silent.seconds() < 3.0


async def test_others_are_served_meanwhile(strict: FrontEnd) -> None:
    async with contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(calling(strict)) for _ in range(100)]
        await asyncio.gather(*(caller.send(HEAD % 1000) for caller in slow))
        other = await stack.enter_async_context(calling(strict))
        await other.send(HEALTH)
        assert (await other.answer()).startswith(b"HTTP/1.1 200")
        assert all(map(is_timeout, await asyncio.gather(*(caller.rest() for caller in slow))))
