"""Which path of the fake engine does what."""

import json
from http import HTTPStatus
from urllib.parse import parse_qs, unquote

from workers.fake import responses
from workers.fake.answer import StreamedAnswer, WholeAnswer
from workers.fake.engine import Engine
from workers.fake.errors import RequestRefusedError
from workers.fake.generation_request import Endpoint, count_prompt_tokens, parse_generation_request
from workers.fake.protocol import HttpConnection, HttpRequest

GENERATION_PATHS: dict[str, Endpoint] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}
LOWEST_ERROR_STATUS, HIGHEST_ERROR_STATUS = 400, 599


class Routes:
    """Answers every request that reaches the fake engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def handle(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answers one request, now or when its generation ends."""
        path, _, query = request.target.partition("?")
        endpoint = GENERATION_PATHS.get(path)
        if endpoint is not None and request.method == "POST":
            self._generate(connection, request, endpoint)
        elif endpoint is not None:
            body = responses.error_body(405, f"{request.method} is not allowed here", "method_not_allowed")
            connection.respond(405, body, "Allow: POST\r\n")
        elif request.method == "GET" and (found := self._read(path)) is not None:
            connection.respond(200, found)
        elif path == "/tokenize" and request.method == "POST":
            self._tokenize(connection, request)
        elif path == "/v1/fail":
            _fail(connection, query)
        elif path.startswith("/v1/"):
            body = responses.echo_body(unquote(path), request.method, len(request.body))
            connection.respond(200, body)
        else:
            connection.respond(404, responses.error_body(404, f"there is no {path}", "not_found"))

    def _read(self, path: str) -> bytes | None:
        settings = self._engine.settings
        match path:
            case "/health":
                return b"{}"
            case "/energy":
                return json.dumps(self._engine.telemetry()).encode()
            case "/v1/models":
                return responses.models_body(settings.model, settings.max_model_len)
            case _:
                return None

    def _tokenize(self, connection: HttpConnection, request: HttpRequest) -> None:
        settings = self._engine.settings
        try:
            prompt_tokens = count_prompt_tokens(request.body, settings)
        except RequestRefusedError as refusal:
            body = responses.error_body(refusal.status, refusal.message, refusal.code, refusal.param)
            connection.respond(refusal.status, body)
        else:
            connection.respond(200, responses.token_count_body(prompt_tokens, settings.max_model_len))

    def _generate(self, connection: HttpConnection, request: HttpRequest, endpoint: Endpoint) -> None:
        settings = self._engine.settings
        try:
            wanted = parse_generation_request(endpoint, request.request_id, request.body, settings)
        except RequestRefusedError as refusal:
            body = responses.error_body(refusal.status, refusal.message, refusal.code, refusal.param)
            connection.respond(refusal.status, body)
            return
        answer = StreamedAnswer if wanted.stream else WholeAnswer
        generation = self._engine.start(wanted, answer(connection, wanted, settings.model))
        if not generation.ended:
            connection.wait_for(generation)


def _fail(connection: HttpConnection, query: str) -> None:
    """Answers the error status the caller asked for, 500 unless it named a valid one."""
    text = parse_qs(query).get("status", ["500"])[0]
    status = int(text) if text.isdecimal() else 500
    if not LOWEST_ERROR_STATUS <= status <= HIGHEST_ERROR_STATUS:
        status = 500
    overloaded = status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    body = responses.error_body(status, f"failing with {status} as asked", "fake_failure")
    connection.respond(status, body, "Retry-After: 1\r\n" if overloaded else "")
