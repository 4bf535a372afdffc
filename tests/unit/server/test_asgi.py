import pytest

from server.api_error import ApiError
from server.asgi import engine_headers, engine_target


def scope(path: str, raw_path: bytes, query: bytes = b"") -> dict[str, object]:
    return {"path": path, "raw_path": raw_path, "query_string": query}


def test_path_and_query_go_to_the_engine_as_they_were_written() -> None:
    assert engine_target(scope("/v1/a b", b"/v1/a%20b", b"q=%2F")) == "/v1/a%20b?q=%2F"


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        ("/v1/../metrics", b"/v1/../metrics"),
        ("/v1/../metrics", b"/v1/%2e%2e/metrics"),
        ("/v1/..%2fmetrics", b"/v1/..%252fmetrics"),
        ("/v1/./x", b"/v1/./x"),
        ("/v1/x", b"/v1/\xc3\xa9"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str, raw_path: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        engine_target(scope(path, raw_path))
    assert (refused.value.status, refused.value.code) == (400, "invalid_url")


def test_headers_between_the_caller_and_us_stay_there() -> None:
    given = [
        (b"host", b"a"),
        (b"connection", b"close, X-Mine"),
        (b"x-mine", b"1"),
        (b"authorization", b"Bearer sk-1"),
        (b"x-api-key", b"sk-2"),
        (b"x-request-id", b"theirs"),
        (b"accept", b"*/*"),
    ]
    assert engine_headers(given, "ours") == [("accept", "*/*"), ("x-request-id", "ours")]
