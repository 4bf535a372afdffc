"""The `/v1` routes as one ASGI endpoint: what runs the engine is scheduled, everything else passes straight through."""

import asyncio
import re
import secrets
import time
from collections.abc import Iterable
from typing import Final

from metering.energy_cap import CAP_FIELD, EnergyCapError, parse_energy_cap
from scheduler.events import RequestArrived
from server.access.caller import Caller
from server.access.gate import Gate
from server.api_error import ApiError
from server.asgi import (
    App,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    send_error,
)
from server.context_limit import ContextLimits
from server.deadline import deadline_at_seconds
from server.disconnect import DisconnectWatch
from server.engine_routes import MODEL_ROUTES, check_method, find_route, is_engines_path, no_such_route
from server.exchange import Exchange
from server.exchange_record import ExchangeRecord
from server.generation_request import GenerationRequest, parse_form_request, parse_generation_request
from server.ledger.row import new_row_id
from server.logs import bind_request_id
from server.model_names import ModelNames
from server.pass_through import pass_through
from server.service_tier import with_tier_asked
from server.serving import Serving

_VALID_REQUEST_ID: Final = re.compile(rb"^[A-Za-z0-9._:-]{1,128}$")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
# What a token is of a text, as long as nobody has counted: the same for every tenant, and corrected at the end.
_BYTES_PER_TOKEN: Final = 4
_SHOWN_CHARACTERS: Final = 100


class Proxy:
    """Serves what is the engines' to answer, by any method."""

    def __init__(
        self,
        serving: Serving,
        limits: ContextLimits,
        gate: Gate,
        names: ModelNames,
        max_body_bytes: int,
    ) -> None:
        self._serving = serving
        self._roster = serving.roster
        self._aborts = serving.aborts
        self._books = serving.books
        self._limits = limits
        self._gate = gate
        self._names = names
        self._max_body_bytes = max_body_bytes
        self._exchanges: dict[str, Exchange] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = header(scope["headers"], b"x-request-id")
        request_id = (
            given.decode("ascii") if given is not None and _VALID_REQUEST_ID.match(given) else secrets.token_hex(16)
        )
        bind_request_id(request_id)
        try:
            await self._serve(scope, receive, send, request_id)
        except ApiError as error:
            await send_error(send, error, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        method, path = scope["method"], scope["path"]
        caller = self._gate.identify(scope["headers"])  # before a byte of the body is read
        route = find_route(path)
        check_method(method, path, _METHODS if route is None else route.methods)
        if route is None and not self._roster.ready():
            raise no_such_route(path)
        body = await read_body(receive, scope["headers"], self._max_body_bytes)
        if route is not None and route.stored_id is not None:
            keeper = self._keeper(route.stored_id, caller)
            await pass_through(self._roster, scope, receive, send, request_id, body, keeper)
        elif method == "POST":
            await self._scheduled(scope, receive, send, request_id, body, caller)
        else:
            await pass_through(self._roster, scope, receive, send, request_id, body)

    def _keeper(self, response_id: str, caller: Caller) -> str | None:
        """The worker that keeps a response, None where it may be any.

        Raises:
            ApiError: 404, the same for what is another tenant's and for what is not there.
        """
        stored = self._roster.stored.find(response_id)
        if not (caller.is_admin if stored is None else caller.may_see(stored.tenant)):
            raise ApiError(404, f"there is no response {response_id[:_SHOWN_CHARACTERS]!r}", "response_not_found")
        return None if stored is None else stored.worker_id

    def _check_responses(self, request: GenerationRequest, caller: Caller) -> None:
        """Let a request build on the caller's own responses alone, and take no id that is another's.

        Raises:
            ApiError: 404.
        """
        if isinstance(request.previous_response_id, str):
            self._keeper(request.previous_response_id, caller)
        wanted = request.own_response_id
        if isinstance(wanted, str) and self._roster.stored.find(wanted) is not None:
            self._keeper(wanted, caller)

    def interrupt(self, error: ApiError) -> None:
        """End every request in flight with this error, now. They are charged like aborted ones."""
        for exchange in list(self._exchanges.values()):
            exchange.interrupt(error)

    # -- scheduled -----------------------------------------------------------------------------------------------

    async def _scheduled(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, body: bytes, caller: Caller
    ) -> None:
        started, arrived_unix_seconds = time.monotonic(), time.time()
        deadline = deadline_at_seconds(scope["headers"], started, arrived_unix_seconds)
        request = self._parse(scope, body)
        self._names.check_any()
        model = request.model or self._names.default()
        path = scope["path"]
        self._check_responses(request, caller)
        cap = _energy_cap(scope["headers"], request)
        self._books.require_ledger()
        admission = self._gate.admit(
            caller, model, request.tier_name, _token_estimate(request), started, arrived_unix_seconds
        )
        record = ExchangeRecord(
            request_id=request_id,
            endpoint=path if path in MODEL_ROUTES else "other",
            tenant=caller.tenant.name,
            model=model,
            tier=admission.tier,
            row_id=new_row_id(arrived_unix_seconds),
            key_id=caller.key_id,
            arrived_unix_seconds=arrived_unix_seconds,
            is_stream=request.stream,
            admission=admission,
        )
        # Two callers may use the same id, and one of them leave; engine, scheduler and charges must tell them apart.
        unique_id = request_id
        if request_id in self._exchanges or self._aborts.knows(request_id):
            unique_id = f"{request_id[:100]}.{secrets.token_hex(4)}"
        span = self._serving.tracing.begin(scope["headers"], record)
        exchange = Exchange(self._serving, span, record, started, admission.headers(), is_capped=cap is not None)
        self._exchanges[unique_id] = exchange
        watch = DisconnectWatch(receive)
        try:
            try:
                tokens = request.prompt.tokens
                if deadline is None or deadline > started:  # one that is past needs no other reason
                    tokens = await exchange.prepare(self._limits.prompt_tokens(path, model, request, body))
                arrival = RequestArrived(
                    unique_id,
                    model,
                    record.tier,
                    prompt_bytes=request.prompt.text_bytes,
                    max_output_tokens=request.max_output_tokens,
                    deadline_at_seconds=deadline,
                    tenant=record.tenant,
                    prompt_tokens=tokens,
                )
                body = with_tier_asked(body, request.tier_name, record.tier, path)
                await exchange.serve(scope, body, arrival, send)
            except ApiError as error:
                record.status, record.error_code = error.status, error.code
                record.outcome = "refused" if error.status < 500 else record.outcome
                self._end(record, started)
                await self._books.keep(record)
                raise error.with_headers(admission.headers()) from error
        except asyncio.CancelledError:
            if not record.is_kept:  # else all was over but for the ledger's word, and counts as what it has
                _cut_off(record, has_failed=exchange.has_failed)
                exchange.expect_charge()
            if not watch.is_gone:
                raise
        finally:
            watch.close()
            del self._exchanges[unique_id]
            self._aborts.ended(unique_id)
            self._end(record, started)
            exchange.forget_charge()
            self._books.close(record)
            span.end(record)

    def _end(self, record: ExchangeRecord, started_at_seconds: float) -> None:
        record.total_seconds = time.monotonic() - started_at_seconds
        if not self._names.knows(record.model):  # whatever callers make up is no label and no key
            record.model = "unknown"

    def _parse(self, scope: Scope, body: bytes) -> GenerationRequest:
        content_type = header(scope["headers"], b"content-type") or b"application/json"
        if not body or (b"json" not in content_type and not body.startswith(b"{")):
            return parse_form_request(content_type, body)
        return parse_generation_request(body, scope["path"])


def _cut_off(record: ExchangeRecord, *, has_failed: bool) -> None:
    """Its caller has left. He may do so as soon as a stream has told its energy, the last thing in it, or its error."""
    if has_failed:
        record.outcome, record.status = "failed", 502
    elif record.energy_joules is None:
        record.abort()
    else:
        record.outcome, record.status = "completed", 200


def _energy_cap(headers: Iterable[tuple[bytes, bytes]], request: GenerationRequest) -> float | None:
    """The cap in joules that the engine is to keep, which finds it in the same places.

    Raises:
        ApiError: 400 where it is none.
    """
    try:
        return parse_energy_cap(headers, {CAP_FIELD: request.max_energy})
    except EnergyCapError as error:
        raise ApiError(400, str(error), "invalid_value", CAP_FIELD) from error


def _token_estimate(request: GenerationRequest) -> int:
    prompt = request.prompt
    return prompt.tokens if prompt.tokens is not None else prompt.text_bytes // _BYTES_PER_TOKEN + 1


class ProxyMiddleware:
    """Takes what belongs to the engines out of the application's stream of requests.

    `/v1/models` stays with the application, which merges the workers' listings, and so does what is ours alone.
    """

    def __init__(self, app: App, proxy: Proxy) -> None:
        self._app = app
        self._proxy = proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_engines_path(scope["path"]):
            await self._proxy(scope, receive, send)
        else:
            await self._app(scope, receive, send)
