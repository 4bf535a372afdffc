"""Adding the block to what the engine wrote, without reading it as anything but bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.splice import StreamAnnotator, energy_comment, splice_into_object, splice_into_usage

BLOCK = b'{"energy_joules":1.5}'
COMMENT = b': energy {"energy_joules":1.5}\n\n'
TRAPS = st.sampled_from(
    ['"usage":{', "data: [DONE]", '"choices":[]', '"type":"response.completed"', '"type":"message_delta"', "\n\n", "}"]
)
TEXT = st.lists(TRAPS | st.text(max_size=8), max_size=5).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT.filter(lambda key: key != "energy"), JSON, max_size=5)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def data(value: Any, event: str = "") -> bytes:
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + compact(value) + b"\n\n"


def annotator() -> StreamAnnotator:
    return StreamAnnotator(lambda: BLOCK)


# -- bodies --------------------------------------------------------------------------------------------------------


@given(OBJECTS, st.sampled_from([None, 2]), st.sampled_from([b"", b"\n", b" \r\n "]))
def test_any_object_keeps_all_it_had_and_gains_the_block(body: dict[str, Any], indent: int | None, end: bytes) -> None:
    written = json.dumps(body, indent=indent).encode() + end
    spliced = splice_into_object(written, BLOCK)
    assert spliced is not None
    assert json.loads(spliced) == {**body, "energy": {"energy_joules": 1.5}}
    assert spliced.replace(b',"energy":' + BLOCK, b"").replace(b'"energy":' + BLOCK, b"") == written


def test_an_empty_object_gets_no_comma() -> None:
    assert splice_into_object(b"{}", BLOCK) == b'{"energy":' + BLOCK + b"}"
    assert splice_into_object(b"{ \n}", BLOCK) == b'{ \n"energy":' + BLOCK + b"}"


@pytest.mark.parametrize("body", [b"", b"}", b"[]", b"[{}]", b'"{}"', b"null", b"12", b"plain text", b"[1}"])
def test_what_is_no_object_is_left_alone(body: bytes) -> None:
    assert splice_into_object(body, BLOCK) is None


def test_an_event_without_usage_is_left_alone() -> None:
    assert splice_into_usage(b'data: {"a":1}', BLOCK) == b'data: {"a":1}'


def test_an_empty_usage_gets_no_comma() -> None:
    assert json.loads(splice_into_usage(b'{"usage":{}}', BLOCK)) == {"usage": {"energy": {"energy_joules": 1.5}}}


# -- streams -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6))
def test_no_text_of_the_model_passes_for_the_end(pieces: list[tuple[str, str]]) -> None:
    stream = StreamAnnotator(lambda: pytest.fail("the block was asked for"))
    for text, name in pieces:
        chat = {"id": "x", "choices": [{"delta": {"content": text, "name": name}}], "usage": None}
        typed = {"type": "response.output_text.delta", "delta": text, name + "!": {"text": text}}
        for event in (data(chat), data(typed, "response.output_text.delta")):
            assert stream.feed(event) == event


def test_the_comment_comes_once_before_done() -> None:
    stream = annotator()
    first = data({"choices": [{"delta": {"content": "hi"}}]})
    assert stream.feed(first) == first
    assert stream.feed(b"data: [DONE]\n\n") == COMMENT + b"data: [DONE]\n\n"
    assert stream.feed(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    assert energy_comment(BLOCK) == COMMENT


def test_done_without_its_newlines_is_still_done() -> None:
    assert annotator().feed(b"data: [DONE]") == COMMENT + b"data: [DONE]"


def test_the_usage_chunk_gets_a_key_and_done_the_comment() -> None:
    stream = annotator()
    usage = {"id": "x", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    out = stream.feed(data(usage))
    assert out.endswith(b"\n\n")
    assert json.loads(out.removeprefix(b"data: ")) == {**usage, "energy": {"energy_joules": 1.5}}
    assert stream.feed(b"data: [DONE]\n\n") == COMMENT + b"data: [DONE]\n\n"


def test_an_empty_choices_chunk_without_usage_is_left_alone() -> None:
    chunk = data({"choices": [], "prompt_filter_results": []})
    assert annotator().feed(chunk) == chunk


def test_several_events_in_one_chunk_are_told_apart() -> None:
    last = data({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    usage = data({"choices": [], "usage": {"total_tokens": 5}})
    spliced = usage.removesuffix(b"}\n\n") + b',"energy":' + BLOCK + b"}\n\n"
    assert annotator().feed(last + usage + b"data: [DONE]\n\n") == last + spliced + COMMENT + b"data: [DONE]\n\n"


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete"])
def test_a_responses_stream_ends_with_energy_in_usage_and_the_comment(kind: str) -> None:
    response = {
        "id": "resp_1",
        "tools": [{"usage": {"of": "a tool"}}],
        "output": ['"usage":{'],
        "usage": {"input_tokens": 1},
    }
    out = annotator().feed(data({"type": kind, "response": response}, kind))
    event, _, comment = out.partition(b"\n\n")
    assert comment == COMMENT
    head, _, body = event.partition(b"\ndata: ")
    assert head == f"event: {kind}".encode()
    assert json.loads(body)["response"]["usage"] == {"energy": {"energy_joules": 1.5}, "input_tokens": 1}


def test_an_anthropic_stream_ends_with_energy_in_usage_and_the_comment() -> None:
    stream = annotator()
    delta = data({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}}, "message_delta")
    event, _, comment = stream.feed(delta).partition(b"\n\n")
    assert comment == COMMENT
    assert json.loads(event.partition(b"data: ")[2])["usage"]["energy"] == {"energy_joules": 1.5}
    stop = data({"type": "message_stop"}, "message_stop")
    assert stream.feed(stop) == stop
    again = stream.feed(delta)
    assert again.count(b"energy_joules") == 1
    assert again.endswith(b"}\n\n")
    assert b"\n\n\n" not in again


def test_a_final_event_without_its_newlines_is_still_annotated() -> None:
    out = annotator().feed(data({"type": "message_delta", "usage": {"output_tokens": 2}}).rstrip())
    assert json.loads(out.partition(b"\n\n")[0].removeprefix(b"data: "))["usage"]["energy"]
    assert out.endswith(COMMENT.rstrip())


def test_the_block_is_asked_for_once() -> None:
    asked: list[int] = []

    def block() -> bytes:
        asked.append(1)
        return BLOCK

    stream = StreamAnnotator(block)
    stream.feed(data({"choices": [], "usage": {"total_tokens": 5}}))
    stream.feed(b"data: [DONE]\n\n")
    assert asked == [1]


@pytest.mark.parametrize(
    ("chunk", "may_end"), [(b"data: [DONE]\n\n", True), (b'data: {"choices":[{}]}\n\n', False), (b"", False)]
)
def test_only_chunks_that_may_end_the_stream_need_feeding(chunk: bytes, *, may_end: bool) -> None:
    assert annotator().may_end(chunk) is may_end
