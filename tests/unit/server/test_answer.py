import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.block import encode_block, unknown_energy_block
from metering.splice import energy_comment, splice_into_object
from server.answer import StreamEnd, cost_of_body, extended_body
from server.cost import NO_COST, Cost

BLOCK: dict[str, Any] = {
    "energy_joules": 12.345,
    "components_joules": {"gpu": 12.345},
    "source": "nvml",
    "measured": True,
    "prompt_tokens": 3,
    "output_tokens": 9,
}
COST = Cost(
    energy_microjoules=12_345_000,
    components_microjoules={"gpu": 12_345_000},
    source="nvml",
    is_measured=True,
    prompt_tokens=3,
    output_tokens=9,
)
DONE = b"data: [DONE]\n\n"


def annotated(body: bytes, block: dict[str, Any]) -> bytes:
    whole = splice_into_object(body, encode_block(block))
    assert whole is not None
    return whole


def of_stream(*chunks: bytes) -> Cost:
    tail = StreamEnd()
    for chunk in chunks:
        tail.feed(chunk)
    return tail.cost()


@pytest.mark.parametrize("body", [b"{}", b'{"a":1}\n', b' {"a":{"energy":{"energy_joules":1}}} '])
def test_the_cost_of_a_body_is_its_last_key(body: bytes) -> None:
    assert cost_of_body(annotated(body, BLOCK)) == COST


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"energy":', b'{"energy":{', b'{"energy":{]}', b"\xff"])
def test_a_body_without_a_cost_costs_nothing_known(body: bytes) -> None:
    assert cost_of_body(body) == NO_COST


def test_text_that_looks_like_a_cost_is_text() -> None:
    text = json.dumps({"content": '"energy":{"energy_joules":1e9,"source":"fake"}'}).encode()
    assert cost_of_body(text) == NO_COST
    assert cost_of_body(annotated(text, BLOCK)) == COST


def test_an_unknown_energy_is_none_and_never_zero() -> None:
    block = unknown_energy_block("no meter")
    unknown = Cost(is_measured=False, reason="no meter")
    assert cost_of_body(annotated(b'{"a":1}', block)) == unknown
    assert of_stream(energy_comment(encode_block(block)) + DONE) == unknown


@pytest.mark.parametrize("absurd", [-1, 10**60, 10**400, 1e300])
def test_an_amount_that_nothing_could_come_to_is_none(absurd: float) -> None:
    body = json.dumps({"energy": {"energy_joules": absurd, "prompt_tokens": absurd, "output_tokens": absurd}})
    assert cost_of_body(body.replace(" ", "").encode()) == NO_COST


STREAM = b'data: {"choices":[]}\n\n' * 300 + energy_comment(encode_block(BLOCK)) + DONE


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_the_cost_of_a_stream_is_found_wherever_it_is_cut(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    assert of_stream(*(STREAM[start:end] for start, end in itertools.pairwise(ends))) == COST


def test_a_stream_byte_for_byte_costs_the_same() -> None:
    assert of_stream(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == COST


def test_a_stream_that_broke_off_has_no_cost() -> None:
    assert of_stream(STREAM[:-100]) == NO_COST
    assert of_stream() == NO_COST


def test_only_the_end_of_a_stream_is_kept() -> None:
    tail = StreamEnd()
    for _ in range(1000):
        tail.feed(b"data: x\n\n" * 10)
    assert len(tail._tail) <= 4096


@pytest.mark.parametrize("end", [b"", DONE, b": energy {}\n\n" + DONE])
def test_an_error_at_the_end_of_a_stream_is_seen(end: bytes) -> None:
    tail = StreamEnd()
    tail.feed(b'data: {"choices":[{"text":"a"}]}\n\n')
    tail.feed(b'data: {"error": {"message": "it broke", "code": 500}}\n\n' + end)
    assert tail.tells_of_error()


def test_a_text_about_errors_is_none() -> None:
    tail = StreamEnd()
    tail.feed(b'data: {"choices":[{"text":"\\n\\ndata: {\\"error\\": 1}"}]}\n\n' + DONE)
    assert not tail.tells_of_error()


TOLD = b'"queue_seconds":0.25'
EXTENDED = {**BLOCK, "queue_seconds": 0.25}


def test_more_is_told_at_the_end_of_a_bodys_block() -> None:
    body = annotated(b'{"a":{"b":1}}\n', BLOCK)
    assert json.loads(extended_body(body, TOLD)) == {"a": {"b": 1}, "energy": EXTENDED}
    assert extended_body(body, b"") == body


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"a":{}}', b'{"energy":null}', b'{"energy":{"energy_joules":1}', b"\xff"]
)
def test_a_body_without_a_block_stays_as_it_is(body: bytes) -> None:
    assert extended_body(body, TOLD) == body


USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":3},"energy":' + encode_block(BLOCK) + b"}\n\n"
TOKENS = b'data: {"choices":[{"text":"a: energy {"}]}\n\n' * 20
WHOLE = TOKENS + USAGE_CHUNK + energy_comment(encode_block(BLOCK)) + DONE


def relayed(told: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What left while the stream went on, and what was kept until its end."""
    end = StreamEnd()
    passed = b"".join(end.feed(piece) for piece in pieces)
    return passed, end.finish(told)


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=20))
def test_nothing_of_a_stream_is_lost_or_changed_wherever_it_is_cut(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(WHOLE)]
    passed, held = relayed(b"", [WHOLE[start:end] for start, end in itertools.pairwise(ends)])
    assert (passed, held) == (TOKENS, WHOLE[len(TOKENS) :])


def test_the_end_is_kept_back_from_its_first_word_of_energy_on() -> None:
    passed, held = relayed(TOLD, [TOKENS, USAGE_CHUNK, WHOLE[len(TOKENS + USAGE_CHUNK) :]])
    assert passed == TOKENS
    assert held.count(b'"queue_seconds":0.25}') == 2
    *events, comment, done, _ = held.split(b"\n\n")
    assert json.loads(events[0].removeprefix(b"data: "))["energy"] == EXTENDED
    assert json.loads(comment.removeprefix(b": energy ")) == EXTENDED
    assert done == b"data: [DONE]"


def test_tokens_that_come_with_the_end_are_not_kept_back() -> None:
    assert relayed(b"", [WHOLE]) == (TOKENS, WHOLE[len(TOKENS) :])


def test_a_stream_without_any_energy_is_kept_back_from_its_done_on() -> None:
    assert relayed(TOLD, [TOKENS + DONE]) == (TOKENS, DONE)


def test_events_leave_once_they_are_whole_whatever_ends_their_lines() -> None:
    end = StreamEnd()
    assert end.feed(b"data: 1\n") == b""
    assert end.feed(b"\ndata: 2\n\nda") == b"data: 1\n\ndata: 2\n\n"
    assert end.feed(b"ta: 3\r\n\r\n") == b"data: 3\r\n\r\n"
    assert end.feed(b"data: 4") == b""
    assert end.finish(TOLD) == b"data: 4"


def test_an_end_that_does_not_end_is_let_go() -> None:
    end = StreamEnd()
    assert end.feed(energy_comment(encode_block(BLOCK))) == b""
    big = b"data: x\n\n" * 1_000_000
    assert len(end.feed(big)) > len(big)
    assert end.feed(DONE) == DONE
    assert end.finish(b"") == b""
