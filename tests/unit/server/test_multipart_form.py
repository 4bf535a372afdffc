"""The form is read as vLLM's own server reads it, whatever pieces it comes in."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api_error import ApiError
from server.multipart_form import MultipartForm, read_form

BOUNDARY = b"xYzZY"
TYPE = b'multipart/form-data; boundary="xYzZY"'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav'


def part(name: str, value: bytes) -> bytes:
    return form_part(f'Content-Disposition: form-data; name="{name}"'.encode(), value)


def form_part(head: bytes, value: bytes) -> bytes:
    return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def read(body: bytes, content_type: bytes = TYPE) -> MultipartForm:
    found = read_form(content_type, body)
    assert found is not None
    return found


@pytest.mark.parametrize("is_first", [True, False])
def test_the_model_is_found_before_and_behind_the_file(*, is_first: bool) -> None:
    file = form_part(FILE, bytes(range(256)) * 64)
    parts = [part("model", b"whisper"), file] if is_first else [file, part("model", b"whisper")]
    found = read(form(*parts))
    assert (found.text("model"), found.is_true("stream"), found.is_sound) == ("whisper", False, True)


@given(
    data=st.binary(max_size=300),
    model=st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=40),
    size=st.integers(1, 80),
)
def test_any_pieces_give_the_same_fields(data: bytes, model: str, size: int) -> None:
    body = form(form_part(FILE, data), part("model", model.encode()), part("stream", b"True"))
    streamed = MultipartForm(BOUNDARY)
    for at in range(0, len(body), size):
        streamed.feed(body[at : at + size])
    whole = read(body)
    if b"--" + BOUNDARY not in data:
        assert streamed.text("model") == whole.text("model") == model
    assert streamed.fields == whole.fields


@pytest.mark.parametrize("value", [b"true", b"True", b"1", b"on"])
def test_a_stream_is_asked_for_in_several_ways(value: bytes) -> None:
    assert read(form(part("stream", value))).is_true("stream")
    assert not read(form(part("stream", b"false"))).is_true("stream")


def test_of_a_repeated_field_the_last_counts() -> None:
    assert read(form(part("model", b"one"), part("model", b"two"))).text("model") == "two"


def test_a_file_called_model_is_no_field_and_neither_is_text_in_a_file() -> None:
    named = form_part(b'Content-Disposition: form-data; name="model"; filename="m"', b"evil")
    hidden = form_part(FILE, b'Content-Disposition: form-data; name="model"\r\n\r\nevil')
    assert read(form(named, hidden)).text("model") is None


@pytest.mark.parametrize("value", [b"m" * 5000, b"\xff\xfe"])
def test_what_cannot_be_a_name_is_refused(value: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read(form(part("model", value))).text("model")
    assert (refused.value.status, refused.value.param) == (400, "model")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"--xYzZY", b"--xYzZY\r\nno header\r\n\r\n", part("model", b"m"), b"\r\n" * 99]
)
def test_what_is_broken_is_read_as_far_as_it_is_sound(body: bytes) -> None:
    assert read(body).text("model") in {None, "m"}


@pytest.mark.parametrize(
    "body",
    [
        b"--xYzZY\r\nA: b\r\n\r\n\r\n" * 1_000_000,
        b"--xYzZY\r\n\r\n" + b"\r\n--xYzZY!" * 2_000_000,
        b"--xYzZY\r\n\r\n\r\n--xYzZY" + b" " * 20_000_000,
        b"\r\n--xYzZ" * 2_000_000,
        b"--xYzZY\r\n" + b"A:b\r\n" * 4_000_000,
    ],
    ids=["parts", "near delimiters", "padding", "beginnings", "headers"],
)
def test_no_form_takes_long_to_read(body: bytes) -> None:
    begun_at_seconds = time.process_time()
    found = read(body)
    assert not found.is_sound
    assert time.process_time() - begun_at_seconds < 0.5


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/octet-stream",
        b"multipart/form-data",
        b"multipart/mixed; boundary=x",
        b"",
        b"multipart/form-data; boundary=" + b"x" * 999,
    ],
)
def test_what_is_no_form_is_none(content_type: bytes) -> None:
    assert read_form(content_type, b"{}") is None
