import itertools

from hypothesis import given
from hypothesis import strategies as st

from server.event_stream import EventStream

BLOCK = b'{"energy_joules":null}'
COMMENT = b": energy " + BLOCK + b"\n\n"
EVENTS = 'data: {"choices":[{"delta":{"content":"ü\\n\\ndata: [DONE]"}}]}\n\n: note\n\nevent: x\ndata: {}\n\n'.encode()
DONE = b"data: [DONE]\n\n"


def through(*chunks: bytes) -> bytes:
    stream = EventStream(BLOCK)
    return b"".join([*(stream.feed(chunk) for chunk in chunks), stream.flush()])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


CUTS = st.lists(st.integers(0, len(EVENTS) + len(DONE)), max_size=40)


@given(cuts=CUTS)
def test_a_stream_gains_a_comment_and_nothing_else_wherever_it_is_cut(cuts: list[int]) -> None:
    assert through(*pieces(EVENTS + DONE, cuts)) == EVENTS + COMMENT + DONE


@given(cuts=CUTS)
def test_lines_that_end_in_crlf_are_lines_too(cuts: list[int]) -> None:
    assert through(*pieces((EVENTS + DONE).replace(b"\n", b"\r\n"), cuts)) == EVENTS + COMMENT + DONE


def test_an_event_leaves_as_soon_as_it_is_whole() -> None:
    for ending in (b"\n\n", b"\r\n\r\n"):
        stream = EventStream(BLOCK)
        assert stream.feed(b"data: 1" + ending[:-1]) == b""
        assert stream.feed(ending[-1:] + b"data: 2") == b"data: 1\n\n"
        assert stream.feed(ending) == b"data: 2\n\n"


def test_the_usage_chunk_gains_the_block() -> None:
    usage = b'data: {"choices":[],"usage":{"total_tokens":1}}\n\n'
    expected = usage[:-3] + b',"energy":' + BLOCK + b"}\n\n"
    assert through(usage[:9], usage[9:] + DONE) == expected + COMMENT + DONE


def test_an_end_without_its_empty_line_is_an_end() -> None:
    for ending in (b"", b"\n", b"\r\n"):
        assert through(EVENTS, b"data: [DONE]" + ending) == EVENTS + COMMENT + b"data: [DONE]" + ending.lstrip(b"\r")


def test_what_broke_off_is_passed_on_as_it_is() -> None:
    assert through(EVENTS, b"data: {half") == EVENTS + b"data: {half"
    assert through() == b""
