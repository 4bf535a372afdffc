"""Answers of engines as bytes: how each ends decides whether its connection may carry another request."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine_connection import EngineAnswer, EngineConnection

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
UNTIL_END = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nabc"


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.pauses: list[bool] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        self.pauses.append(True)

    def resume_reading(self) -> None:
        self.pauses.append(False)


class Asked:
    """A connection that has carried a request to its engine."""

    def __init__(self) -> None:
        self.freed: list[EngineConnection] = []
        self.lost: list[EngineConnection] = []
        self.transport = Transport()
        self.connection = EngineConnection(self.freed.append, self.lost.append)
        self.connection.connection_made(self.transport)
        self.answer: EngineAnswer = self.connection.ask(REQUEST)
        assert self.transport.sent == [REQUEST]


@given(cuts=st.lists(st.integers(0, len(CHUNKED)), max_size=6))
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    asked = Asked()
    places = [0, *sorted(cuts), len(CHUNKED)]
    for start, end in pairwise(places):
        if start < end:
            asked.connection.data_received(CHUNKED[start:end])
    assert asyncio.run(asked.answer.read()) == b"abcde"
    assert asked.answer.status == 200


async def test_a_connection_is_free_once_its_whole_answer_is_released() -> None:
    asked = Asked()
    asked.connection.data_received(PLAIN)
    await asked.answer.begin()
    assert asked.answer.raw_headers == [(b"X-A", b"b"), (b"Content-Length", b"2")]
    assert await asked.answer.read() == b"{}"
    assert asked.freed == []
    asked.answer.release()
    asked.answer.release()
    assert asked.freed == [asked.connection]
    second = asked.connection.ask(REQUEST)
    asked.connection.data_received(CHUNKED)
    assert [piece async for piece in second.iter_any()] == [b"abcde"]


@pytest.mark.parametrize("data", [CLOSING, PLAIN[:-1], b"HTTP/1.1 200 OK\r\n"])
async def test_a_connection_that_may_not_or_cannot_go_on_is_closed(data: bytes) -> None:
    asked = Asked()
    asked.connection.data_received(data)
    asked.answer.release()
    assert asked.transport.is_closed
    assert asked.freed == []


async def test_an_interim_answer_is_not_the_answer() -> None:
    asked = Asked()
    asked.connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert asked.answer.status == 0
    asked.connection.data_received(PLAIN)
    assert (asked.answer.status, await asked.answer.read()) == (200, b"{}")


async def test_without_a_length_the_end_of_the_connection_is_the_end_of_the_answer() -> None:
    asked = Asked()
    asked.connection.data_received(UNTIL_END)
    asked.connection.connection_lost(None)
    assert await asked.answer.read() == b"abc"
    asked.answer.release()
    assert (asked.freed, asked.lost) == ([], [asked.connection])


async def test_what_came_before_an_engine_broke_off_is_read_before_the_error() -> None:
    asked = Asked()
    asked.connection.data_received(CHUNKED[:-5])
    asked.connection.connection_lost(None)
    assert await asked.answer.readany() == b"abcde"
    with pytest.raises(ConnectionResetError, match="the engine closed the connection"):
        await asked.answer.readany()


@pytest.mark.parametrize("error", [None, ConnectionResetError(), OSError()])
async def test_who_waits_hears_that_the_engine_is_gone(error: Exception | None) -> None:
    asked = Asked()
    waiting = asyncio.create_task(asked.answer.begin())
    await asyncio.sleep(0)
    asked.connection.connection_lost(error)
    with pytest.raises(OSError, match="the engine"):
        await waiting


async def test_what_is_not_http_is_an_error_and_ends_the_connection() -> None:
    asked = Asked()
    asked.connection.data_received(b"SSH-2.0-nonsense\r\n")
    with pytest.raises(ConnectionError, match="not HTTP"):
        await asked.answer.begin()
    assert asked.transport.is_closed


async def test_what_nobody_asked_for_ends_the_connection() -> None:
    asked = Asked()
    asked.connection.data_received(PLAIN)
    asked.answer.release()
    asked.connection.data_received(PLAIN)
    assert asked.transport.is_closed


async def test_an_engine_waits_for_a_slow_reader_of_a_stream_and_not_for_one_who_wants_it_whole() -> None:
    piece = b"80000\r\n" + b"x" * 0x80000 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    asked = Asked()
    asked.connection.data_received(head + piece)
    assert asked.transport.pauses == [True]
    assert len(await asked.answer.readany()) == 0x80000
    assert asked.transport.pauses == [True, False]
    whole = Asked()
    reading = asyncio.create_task(whole.answer.read())
    await asyncio.sleep(0)
    whole.connection.data_received(head + piece + piece)
    assert whole.transport.pauses == []
    whole.connection.data_received(b"0\r\n\r\n")
    assert len(await reading) == 2 * 0x80000


async def test_a_large_answer_that_came_before_it_was_read_leaves_a_connection_that_hears_the_next() -> None:
    asked = Asked()
    asked.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n\r\n")
    asked.connection.data_received(b"x" * 0x80000)
    assert asked.transport.pauses == [True]
    assert len(await asked.answer.read()) == 0x80000
    asked.answer.release()
    assert asked.freed == [asked.connection]
    assert asked.transport.pauses == [True, False]


async def test_an_answer_without_a_length_is_not_whole_because_we_closed_its_connection() -> None:
    asked = Asked()
    asked.connection.data_received(UNTIL_END)
    asked.connection.abort()
    asked.connection.connection_lost(None)
    assert await asked.answer.readany() == b"abc"
    with pytest.raises(ConnectionResetError):
        await asked.answer.readany()
