"""The load client's own arithmetic and parsing: wrong here, and every benchmark is wrong."""

import asyncio
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.http_load import chat_request, percentile
from bench.load_connection import Answer, LoadConnection

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = [b'data: {"text":"no data: here"}\n\n', b"data: two\n\n", b": energy {}\n\n", b"data: [DONE]\n\n"]
STREAM = (
    b"HTTP/1.1 200 OK\r\nCONTENT-TYPE: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in EVENTS)
    + b"0\r\n\r\n"
)
EVENTS_IN_STREAM = 3


class RecordingTransport(asyncio.Transport):
    """Keeps what is sent, and tells its protocol of the end as a socket does."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self._protocol.connection_lost(None)

    def abort(self) -> None:
        self._protocol.connection_lost(None)


class Owner:
    """Allows a fixed number of requests and keeps what it hears."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.answers: list[Answer] = []
        self.breaks: list[bool] = []

    def take_turn(self) -> bool:
        self.turns -= 1
        return self.turns >= 0

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def broken(self, connection: LoadConnection, *, waiting: bool) -> None:
        self.breaks.append(waiting)


def connected(turns: int, *, count_output_tokens: bool = False) -> tuple[Owner, LoadConnection, list[bytes]]:
    owner = Owner(turns)
    connection = LoadConnection(owner, REQUEST, count_output_tokens=count_output_tokens)
    transport = RecordingTransport(connection)
    connection.connection_made(transport)
    return owner, connection, transport.sent


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_counted_once_however_the_stream_is_cut(cuts: list[int]) -> None:
    owner, connection, _ = connected(turns=1)
    edges = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(edges):
        if start < end:
            connection.data_received(STREAM[start:end])
    assert [answer.chunks for answer in owner.answers] == [EVENTS_IN_STREAM]
    assert connection.chunks_in_flight == 0


def test_events_of_an_unfinished_answer_are_in_flight() -> None:
    owner, connection, _ = connected(turns=1)
    connection.data_received(STREAM[: STREAM.index(b": energy")])
    assert owner.answers == []
    assert connection.chunks_in_flight == EVENTS_IN_STREAM - 1


def test_next_request_leaves_only_when_the_answer_is_complete() -> None:
    owner, connection, sent = connected(turns=2)
    connection.data_received(PLAIN[:-1])
    assert sent == [REQUEST]
    connection.data_received(PLAIN[-1:])
    assert sent == [REQUEST, REQUEST]
    connection.data_received(PLAIN)
    assert sent == [REQUEST, REQUEST], "the owner allowed two requests only"
    assert len(owner.answers) == len(sent)


def test_interim_answer_is_not_counted() -> None:
    owner, connection, sent = connected(turns=2)
    connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (owner.answers, sent) == ([], [REQUEST])
    connection.data_received(PLAIN)
    assert [answer.status for answer in owner.answers] == [200]


@pytest.mark.parametrize(("status", "succeeded"), [(200, True), (399, True), (400, False), (503, False)])
def test_answer_with_an_error_status_did_not_succeed(status: int, *, succeeded: bool) -> None:
    owner, connection, _ = connected(turns=1)
    connection.data_received(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)
    assert [answer.succeeded for answer in owner.answers] == [succeeded]


def test_output_tokens_come_from_the_last_usage() -> None:
    owner, connection, _ = connected(turns=1, count_output_tokens=True)
    body = b'{"completion_tokens":1} {"completion_tokens": 64}'
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert [answer.output_tokens for answer in owner.answers] == [64]


def test_connection_lost_in_the_middle_of_an_answer_is_a_failed_request() -> None:
    owner, connection, _ = connected(turns=1)
    connection.data_received(STREAM[:-5])
    connection.connection_lost(None)
    assert owner.breaks == [True]
    assert owner.answers == []


def test_server_that_closes_after_its_answer_costs_no_error() -> None:
    owner, connection, _ = connected(turns=5)
    connection.data_received(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert owner.breaks == [False]
    assert len(owner.answers) == 1


def test_bytes_that_are_not_http_end_the_connection_as_failed() -> None:
    owner, connection, _ = connected(turns=1)
    connection.data_received(b"SSH-2.0-OpenSSH\r\n")
    assert owner.breaks == [True]


def test_request_announces_exactly_the_body_it_carries() -> None:
    request = chat_request("http://host:81", model="modèle", max_tokens=7, stream=True)
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
    assert b"Host: host:81" in head.split(b"\r\n")
    fields = json.loads(body)
    assert (fields["model"], fields["max_tokens"], fields["stream"]) == ("modèle", 7, True)


@pytest.mark.parametrize(
    ("values", "ratio", "expected"),
    [
        ([], 0.5, None),
        ([3.0], 0.99, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(value) for value in range(1, 101)], 0.99, 99.0),
    ],
)
def test_percentile_is_the_nearest_rank(values: list[float], ratio: float, expected: float | None) -> None:
    assert percentile(values, ratio) == expected
