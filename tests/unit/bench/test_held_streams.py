"""What the held-stream load counts: a stream that breaks off or tells of an error must never pass as whole."""

import asyncio
from array import array

import pytest

from bench.overhead.settings import HeldStreamSettings
from bench.overhead.stream_connection import StreamConnection
from tests.unit.bench.test_http_load import RecordingTransport

REQUEST = b"POST / HTTP/1.1\r\n\r\n"
TOKEN = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"


class Owner:
    def __init__(self) -> None:
        self.gaps_seconds: array[float] | None = array("d")
        self.beginnings = 0
        self.ends: list[tuple[bool, bool]] = []

    def begun(self) -> None:
        self.beginnings += 1

    def ended(self, *, had_begun: bool, whole: bool) -> None:
        self.ends.append((had_begun, whole))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(status: int = 200) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" % status


def opened(least_events: int) -> tuple[StreamConnection, Owner, RecordingTransport]:
    owner = Owner()
    stream = StreamConnection(owner, REQUEST, least_events)
    transport = RecordingTransport(stream)
    stream.connection_made(transport)
    assert transport.sent == [REQUEST]
    return stream, owner, transport


def test_a_whole_stream_is_counted_once_with_a_gap_for_every_event_after_the_first() -> None:
    stream, owner, _ = opened(least_events=4)
    stream.data_received(head() + chunk(TOKEN))
    stream.data_received(chunk(TOKEN + TOKEN))
    stream.data_received(chunk(DONE) + b"0\r\n\r\n")
    assert (owner.beginnings, owner.ends, stream.events) == (1, [(True, True)], 4)
    assert owner.gaps_seconds is not None
    assert len(owner.gaps_seconds) == 3
    assert owner.gaps_seconds[1] == 0, "an event that came with another did not keep anybody waiting"


@pytest.mark.parametrize(
    "rest",
    [
        chunk(TOKEN) + b"0\r\n\r\n",
        chunk(DONE) + b"0\r\n\r\n",
        chunk(TOKEN) + chunk(b'data: {"error":{}}\n\n' + DONE) + b"0\r\n\r\n",
        b"nonsense",
    ],
)
def test_a_stream_without_end_too_short_or_with_an_error_is_not_whole(rest: bytes) -> None:
    stream, owner, _ = opened(least_events=3)
    stream.data_received(head() + chunk(TOKEN) + rest)
    assert owner.ends == [(True, False)]


def test_a_stream_that_breaks_off_or_is_refused_is_not_whole() -> None:
    for data, had_begun in ((head() + chunk(TOKEN), True), (b"", False)):
        stream, owner, transport = opened(least_events=2)
        if data:
            stream.data_received(data)
        transport.close()
        assert owner.ends == [(had_begun, False)]
    stream, owner, _ = opened(least_events=2)
    stream.data_received(head(429) + chunk(TOKEN) + chunk(DONE) + b"0\r\n\r\n")
    assert owner.ends == [(True, False)]


async def test_leaving_is_no_error_of_the_servers() -> None:
    stream, owner, _ = opened(least_events=2)
    stream.data_received(head() + chunk(TOKEN))
    stream.close()
    await asyncio.sleep(0)
    assert owner.ends == []


def test_streams_opened_first_last_until_the_last_has_been_held() -> None:
    settings = HeldStreamSettings(streams=10, seconds=5, tokens_per_second=2, ramp_seconds=3)
    assert settings.max_tokens / settings.tokens_per_second >= settings.seconds + settings.ramp_seconds
