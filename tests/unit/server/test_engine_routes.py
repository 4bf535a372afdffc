import pytest

from server.api_error import ApiError
from server.engine_routes import MODEL_ROUTES, check_method, find_route, is_engines_path


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/a/b", "/v1/scheduler", "/v1/energy/summary", "/health", "/"]
)
def test_what_the_application_answers_is_not_for_the_engines(path: str) -> None:
    assert not is_engines_path(path)
    assert find_route(path) is None


@pytest.mark.parametrize("path", [*MODEL_ROUTES, "/v1/responses/resp_1", "/v1/not/known/yet", "/v1/modelsX"])
def test_everything_else_under_v1_is_for_the_engines(path: str) -> None:
    assert is_engines_path(path)


def test_a_stored_response_is_told_from_the_routes_beside_it() -> None:
    read, cancel = find_route("/v1/responses/resp_1"), find_route("/v1/responses/resp_1/cancel")
    assert read is not None
    assert (read.stored_id, read.methods) == ("resp_1", frozenset({"GET", "DELETE"}))
    assert cancel is not None
    assert (cancel.stored_id, cancel.methods) == ("resp_1", frozenset({"POST"}))
    for path in ("/v1/responses", "/v1/responses/render"):
        route = find_route(path)
        assert route is not None
        assert (route.stored_id, route.methods) == (None, frozenset({"POST"}))
    assert find_route("/v1/responses/resp_1/input_items") is None


def test_a_method_that_a_route_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(ApiError) as refused:
        check_method("PUT", "/v1/responses/resp_1", frozenset({"GET", "DELETE"}))
    assert (refused.value.status, refused.value.headers) == (405, {"Allow": "DELETE, GET"})
    check_method("GET", "/v1/responses/resp_1", frozenset({"GET", "DELETE"}))
