"""The description is valid, and says of every route of ours what FastAPI would say wrongly."""

import json
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI

from metering.routes import runs_engine
from server.engine_routes import find_route, is_engines_path
from server.openapi import describe

METHODS = {"get", "head", "post", "put", "delete"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    app = FastAPI(title="Wattline")

    @app.api_route("/ready", methods=["GET", "HEAD"], summary="Ready.")
    async def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.get("/v1/models/{model_id:path}", summary="One model.")
    async def model(model_id: str, limit: int = 1) -> dict[str, str]:
        return {"id": f"{model_id}{limit}"}

    return describe(app)


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_a_valid_description(description: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(description).validate()
    assert description["openapi"].startswith("3.1")
    json.dumps(description)


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                target: Any = description
                for part in reference.removeprefix("#/").split("/"):
                    target = target[part]
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    look(description)


def test_operations_have_ids_of_their_own_and_no_422(description: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(set(ids)) == len(ids)
    assert not [path for path, _, operation in operations(description) if "422" in operation["responses"]]
    assert "HTTPValidationError" not in description["components"]["schemas"]


def test_errors_are_described_where_they_may_come(description: dict[str, Any]) -> None:
    chat = description["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert {"200", "400", "401", "403", "404", "405", "413", "429", "503"} <= chat.keys()
    ready = description["paths"]["/ready"]["get"]
    assert (ready["security"], {"200", "405", "503"} <= ready["responses"].keys()) == ([], True)
    model = description["paths"]["/v1/models/{model_id}"]["get"]
    assert {"bearer": []} in model["security"]
    assert {one["name"] for one in model["parameters"]} == {"model_id", "limit"}
    for status in ("401", "429"):
        content = description["components"]["responses"][status]["content"]
        assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def test_what_is_described_of_the_engines_is_routed_to_them(description: dict[str, Any]) -> None:
    for path, method, operation in operations(description):
        if path.startswith(("/ready", "/v1/models")):
            continue
        route = find_route(path.replace("{response_id}", "resp_1"))
        assert is_engines_path(path)
        assert route is not None
        assert method.upper() in route.methods
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert schema.endswith("/Answer") == runs_engine(path)
