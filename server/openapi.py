"""The OpenAPI description at `/openapi.json`: our own routes as FastAPI knows them, and the engines' main ones.

The engines judge what they are sent, so the schemas of requests say only what holds for every engine: the required
fields, their types, and that more is allowed. They lie beside this file, in `openapi.json`.
"""

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.version import wattline_version

_ERRORS: Final = {
    "400": "The request is malformed, or a field is not what the engine takes.",
    "401": "The key is missing, unknown, expired or revoked.",
    "403": "The key may not use this model.",
    "404": "There is no such route, model or response.",
    "405": "The route does not have this method; `Allow` names those it has.",
    "408": "The deadline that the request came with has passed.",
    "413": "The body is too long.",
    "429": "Too much is asked at once, or a budget is spent; `Retry-After` says when to come back.",
    "500": "Something failed that is neither the caller's fault nor an engine's.",
    "502": "The engine broke off, or could not be reached.",
    "503": "No worker can serve now; `Retry-After` says when to come back.",
}
_OF_ANY_ROUTE: Final = ("401", "403", "405")
_OPEN_PATHS: Final = frozenset({"/health", "/ready"})
_NO_KEY_NEEDED: Final[list[dict[str, list[str]]]] = []
# Or none, where the server has no keys.
_KEY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"x-api-key": []}, {}]


@dataclass(frozen=True, slots=True)
class _Route:
    """A POST route of the engines. `request` and `answer` name schemas."""

    path: str
    summary: str
    request: str
    answer: str = "Answer"
    streams: bool = False
    media_type: str = "application/json"


_ROUTES: Final = (
    _Route("/v1/chat/completions", "The next message of a chat.", "ChatCompletionRequest", streams=True),
    _Route("/v1/completions", "What follows a text.", "CompletionRequest", streams=True),
    _Route("/v1/responses", "OpenAI's Responses API.", "ResponsesRequest", streams=True),
    _Route("/v1/messages", "Anthropic's Messages API.", "MessagesRequest", streams=True),
    _Route("/v1/messages/count_tokens", "How many tokens messages have.", "CountTokensRequest", "Object"),
    _Route("/v1/embeddings", "Vectors of texts.", "EmbeddingRequest"),
    _Route("/v1/score", "How alike pairs of texts are.", "ScoreRequest"),
    _Route("/v1/rerank", "Documents by their relevance to a query.", "RerankRequest"),
    _Route("/classify", "Classes of texts.", "PoolingRequest"),
    _Route("/pooling", "What a pooling model makes of texts.", "PoolingRequest"),
    _Route("/tokenize", "A text as tokens.", "TokenizeRequest", "Object"),
    _Route("/detokenize", "Tokens as a text.", "DetokenizeRequest", "Object"),
    _Route(
        "/v1/audio/transcriptions",
        "Speech as text.",
        "AudioForm",
        streams=True,
        media_type="multipart/form-data",
    ),
    _Route(
        "/v1/audio/translations",
        "Speech as English text.",
        "AudioForm",
        streams=True,
        media_type="multipart/form-data",
    ),
)
_STORED: Final = {
    ("/v1/responses/{response_id}", "get"): "A response that was made before.",
    ("/v1/responses/{response_id}/cancel", "post"): "Stop a response that is made in the background.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of `app`, all routes of which have been added, and of the engines behind it."""
    with warnings.catch_warnings():
        # A route of ours that answers GET and HEAD has one id for both; each gets its own below.
        warnings.filterwarnings("ignore", "Duplicate Operation ID", UserWarning)
        own = get_openapi(
            title=app.title,
            version=wattline_version(),
            summary=app.summary,
            description=_DESCRIPTION,
            routes=app.routes,
        )
    paths: dict[str, Any] = {path: _own_operations(path, operations) for path, operations in own["paths"].items()}
    for route in _ROUTES:
        paths[route.path] = {"post": _engine_operation(route)}
    for (path, method), summary in _STORED.items():
        paths.setdefault(path, {})[method] = _stored_operation(path, method, summary)
    schemas = own.get("components", {}).get("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= json.loads(files("server").joinpath("openapi.json").read_text(encoding="utf-8"))
    components = {"schemas": schemas, "responses": _error_responses(), "securitySchemes": _SECURITY}
    return own | {"paths": paths, "components": components, "security": _KEY}


_DESCRIPTION: Final = (
    "Whatever else the engines serve under /v1 is relayed as well. Streams end with their energy in a comment, "
    "`: energy {…}`, before `data: [DONE]`."
)
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer sk-…`"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients do."},
}


def _own_operations(path: str, operations: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's operations with our errors in place of its 422, which is never sent."""
    described: dict[str, Any] = {}
    for method, operation in operations.items():
        responses = {status: answer for status, answer in operation["responses"].items() if status != "422"}
        errors: tuple[str, ...] = ("405",)
        if path not in _OPEN_PATHS:
            errors = (*_OF_ANY_ROUTE, "400", "404", "503")
        elif path == "/ready":
            responses["503"] = {"description": "No worker can serve, or the server is stopping."}
        described[method] = operation | {
            "operationId": f"{method}_{_words(path)}",
            "responses": responses | _errors(error for error in errors if error not in responses),
            "security": _NO_KEY_NEEDED if path in _OPEN_PATHS else _KEY,
        }
        if method == "head":
            described[method]["responses"] = {
                status: {"description": answer.get("description", _ERRORS.get(status, ""))}
                for status, answer in described[method]["responses"].items()
            }
    return described


def _engine_operation(route: _Route) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _schema(route.answer)}}
    if route.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    body = {"required": True, "content": {route.media_type: {"schema": _schema(route.request)}}}
    return {
        "summary": route.summary,
        "operationId": f"post_{_words(route.path)}",
        "requestBody": body,
        "responses": {"200": {"description": "The engine's answer.", "content": content}} | _errors(_ERRORS),
    }


def _stored_operation(path: str, method: str, summary: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _schema("Object")}, "text/event-stream": {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "operationId": f"{method}_{_words(path)}",
        "parameters": [{"name": "response_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {"200": {"description": "The engine's answer.", "content": content}} | _errors(_ERRORS),
    }


def _errors(statuses: Iterable[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _error_responses() -> dict[str, Any]:
    content = {"application/json": {"schema": _schema("Error")}}
    return {status: {"description": text, "content": content} for status, text in _ERRORS.items()}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _words(path: str) -> str:
    return path.strip("/").replace("{", "").replace("}", "").replace("/", "_").replace(":", "_") or "root"
