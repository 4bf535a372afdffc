"""What one connection can make the server keep: heads in one piece, fields by the thousand, pipelines without end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.http_answers import HELLO
from tests.integration.processes import FrontEnd, fake_engine, front_end


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def instant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontEnd]:
    folder = tmp_path_factory.mktemp("instant")
    async with fake_engine(folder) as engine, front_end(folder, engine.url) as running:
        yield running


async def left(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def exchange(server: FrontEnd, sent: bytes) -> bytes:
    """Send it all; everything that comes back until the server closes, or for a second after it has all been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    answer = b""
    try:
        writer.write(sent)
        try:
            async with asyncio.timeout(1):
                while chunk := await reader.read(65536):
                    answer += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return answer
    finally:
        await left(writer)


@pytest.mark.parametrize(
    "lines",
    [b"X: " + b"a" * 70_000, b"a" * 70_000 + b": x", b"\r\n".join(b"X-%d: x" % number for number in range(300))],
)
async def test_a_head_too_large_in_one_piece_is_refused(instant: FrontEnd, lines: bytes) -> None:
    body = json.dumps(HELLO).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = await exchange(instant, head + body)
    assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
    assert b"request_head_too_large" in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("first_bytes", [10, 40_000, 65_000])
async def test_a_head_too_large_in_two_pieces_is_refused(instant: FrontEnd, first_bytes: int) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(instant.url.rpartition(":")[2]))
    try:
        writer.write(head[:first_bytes])
        await writer.drain()
        # Once a later connection has its answer, the server has read the first piece.
        assert (await exchange(instant, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(head[first_bytes:])
        async with asyncio.timeout(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    finally:
        await left(writer)


async def test_a_large_head_behind_a_small_request_in_one_piece_is_refused(instant: FrontEnd) -> None:
    small = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    large = b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"
    assert b"HTTP/1.1 200 " not in (await exchange(instant, small + large)).partition(b"HTTP/1.1 200 ")[2]


async def test_a_body_larger_than_any_head_is_served_in_one_piece(instant: FrontEnd) -> None:
    body = json.dumps(HELLO).encode() + b" " * 100_000
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await exchange(instant, head + body)).startswith(b"HTTP/1.1 200 ")


async def test_a_pipeline_without_end_is_cut(instant: FrontEnd, tmp_path: Path) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    few = await exchange(instant, one * 20)
    assert few.count(b"HTTP/1.1 200 ") == 20, "clients that pipeline a little are served"
    many = await exchange(instant, one * 10_000)
    assert many.count(b"HTTP/1.1 200 ") < 200


async def test_garbage_after_a_request_never_gets_into_its_answer(instant: FrontEnd) -> None:
    body = json.dumps(HELLO | {"stream": True, "max_tokens": 20_000}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(instant.url.rpartition(":")[2]))
    try:
        writer.write(head + body)
        answer = await reader.read(1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        writer.write(b"garbage\r\n\r\n")
        try:
            while chunk := await reader.read(65536):
                answer += chunk
        except ConnectionResetError:
            pass
        assert b"HTTP/1.1 400" not in answer
    finally:
        await left(writer)
