import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.block import encode_block, unknown_energy_block
from metering.splice import energy_comment, splice_into_object
from server.answer import Cost, StreamTail, cost_of_body

BLOCK: dict[str, Any] = {
    "energy_joules": 12.345,
    "components_joules": {"gpu": 12.345},
    "source": "nvml",
    "measured": True,
    "prompt_tokens": 3,
    "output_tokens": 9,
}
COST = Cost(12.345, "nvml", 3, 9)
DONE = b"data: [DONE]\n\n"


def annotated(body: bytes, block: dict[str, Any]) -> bytes:
    whole = splice_into_object(body, encode_block(block))
    assert whole is not None
    return whole


def of_stream(*chunks: bytes) -> Cost:
    tail = StreamTail()
    for chunk in chunks:
        tail.feed(chunk)
    return tail.cost()


@pytest.mark.parametrize("body", [b"{}", b'{"a":1}\n', b' {"a":{"energy":{"energy_joules":1}}} '])
def test_the_cost_of_a_body_is_its_last_key(body: bytes) -> None:
    assert cost_of_body(annotated(body, BLOCK)) == COST


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"energy":', b'{"energy":{', b'{"energy":{]}', b"\xff"])
def test_a_body_without_a_cost_costs_nothing_known(body: bytes) -> None:
    assert cost_of_body(body) == Cost()


def test_text_that_looks_like_a_cost_is_text() -> None:
    text = json.dumps({"content": '"energy":{"energy_joules":1e9,"source":"fake"}'}).encode()
    assert cost_of_body(text) == Cost()
    assert cost_of_body(annotated(text, BLOCK)) == COST


def test_an_unknown_energy_is_none_and_never_zero() -> None:
    block = unknown_energy_block("no meter")
    assert cost_of_body(annotated(b'{"a":1}', block)) == Cost()
    assert of_stream(energy_comment(encode_block(block)) + DONE) == Cost()


@pytest.mark.parametrize("absurd", [-1, 10**60, 10**400, 1e300])
def test_an_amount_that_nothing_could_come_to_is_none(absurd: float) -> None:
    body = json.dumps({"energy": {"energy_joules": absurd, "prompt_tokens": absurd, "output_tokens": absurd}})
    assert cost_of_body(body.replace(" ", "").encode()) == Cost()


STREAM = b'data: {"choices":[]}\n\n' * 300 + energy_comment(encode_block(BLOCK)) + DONE


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_the_cost_of_a_stream_is_found_wherever_it_is_cut(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    assert of_stream(*(STREAM[start:end] for start, end in itertools.pairwise(ends))) == COST


def test_a_stream_byte_for_byte_costs_the_same() -> None:
    assert of_stream(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == COST


def test_a_stream_that_broke_off_has_no_cost() -> None:
    assert of_stream(STREAM[:-100]) == Cost()
    assert of_stream() == Cost()


def test_only_the_end_of_a_stream_is_kept() -> None:
    tail = StreamTail()
    for _ in range(1000):
        tail.feed(b"data: x\n\n" * 10)
    assert len(tail._tail) <= 4096


@pytest.mark.parametrize("end", [b"", DONE, b": energy {}\n\n" + DONE])
def test_an_error_at_the_end_of_a_stream_is_seen(end: bytes) -> None:
    tail = StreamTail()
    tail.feed(b'data: {"choices":[{"text":"a"}]}\n\n')
    tail.feed(b'data: {"error": {"message": "it broke", "code": 500}}\n\n' + end)
    assert tail.tells_of_error()


def test_a_text_about_errors_is_none() -> None:
    tail = StreamTail()
    tail.feed(b'data: {"choices":[{"text":"\\n\\ndata: {\\"error\\": 1}"}]}\n\n' + DONE)
    assert not tail.tells_of_error()
