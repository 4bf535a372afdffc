import json

import pytest

from server.engine_failure import begins_with_failure, is_failure_status

TEXT = b'data: {"choices":[{"text":"\\n\\ndata: {\\"error\\":{\\"code\\":500}}"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def error_event(**fields: object) -> bytes:
    return b"data: " + json.dumps({"error": {"message": "it broke", **fields}}).encode() + b"\n\n"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_engine_at_fault_is_told_by_its_status(status: int) -> None:
    assert is_failure_status(status)


@pytest.mark.parametrize("status", [200, 400, 404, 422, 429, 501, 600])
def test_a_refusal_or_a_missing_route_is_no_failure(status: int) -> None:
    assert not is_failure_status(status)


@pytest.mark.parametrize(
    "first",
    [
        error_event(code=500, type="InternalServerError"),
        error_event(code=503) + DONE,
        error_event(code=None, type="server_error"),
        error_event(code="engine_error", type="server_error"),
        b": keep-alive\n\nevent: error\n" + error_event(code=500),
        error_event(code=500).replace(b"\n", b"\r\n"),
    ],
)
def test_a_stream_that_begins_with_an_engines_error_is_a_failure(first: bytes) -> None:
    assert begins_with_failure(first)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        TEXT,
        TEXT + error_event(code=500),
        error_event(code=400, type="BadRequestError"),
        error_event(code="invalid_value", type="invalid_request_error"),
        error_event(code=500)[:30],
        b'data: {"choices":[],"error":null}\n\n',
        b'data: "error"\n\n',
        b'data: ["error"]\n\n',
        b'data: {"error":"it broke"}\n\n',
        b': "error"\n\n',
    ],
)
def test_any_other_beginning_is_an_answer(first: bytes) -> None:
    assert not begins_with_failure(first)
