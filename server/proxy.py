"""The `/v1` routes as one ASGI endpoint: what runs the engine is scheduled, everything else passes straight through."""

import asyncio
import re
import secrets
import time
from typing import Final

from scheduler.driver import SchedulerDriver
from scheduler.events import RequestArrived
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
from server.ledger_of_aborts import LedgerOfAborts
from server.metrics import ServerMetrics
from server.model_names import ModelNames
from server.pass_through import pass_through
from server.request_books import RequestBooks
from server.roster import Roster
from server.service_tier import with_tier_asked

_VALID_REQUEST_ID: Final = re.compile(rb"^[A-Za-z0-9._:-]{1,128}$")
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_NO_KEYS_TENANT: Final = "anonymous"


class Proxy:
    """Serves what is the engines' to answer, by any method."""

    def __init__(
        self,
        driver: SchedulerDriver,
        roster: Roster,
        metrics: ServerMetrics,
        aborts: LedgerOfAborts,
        books: RequestBooks,
        limits: ContextLimits,
        names: ModelNames,
        max_body_bytes: int,
    ) -> None:
        self._driver = driver
        self._roster = roster
        self._metrics = metrics
        self._aborts = aborts
        self._books = books
        self._limits = limits
        self._names = names
        self._max_body_bytes = max_body_bytes
        self._exchanges: dict[str, tuple[Exchange, ExchangeRecord]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = header(scope["headers"], b"x-request-id")
        request_id = (
            given.decode("ascii") if given is not None and _VALID_REQUEST_ID.match(given) else secrets.token_hex(16)
        )
        try:
            await self._serve(scope, receive, send, request_id)
        except ApiError as error:
            await send_error(send, error, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        method, path = scope["method"], scope["path"]
        route = find_route(path)
        check_method(method, path, _METHODS if route is None else route.methods)
        if route is None and not self._roster.ready():
            raise no_such_route(path)
        body = await read_body(receive, scope["headers"], self._max_body_bytes)
        if route is not None and route.stored_id is not None:
            keeper = self._roster.stored.worker_of(route.stored_id)
            await pass_through(self._roster, scope, receive, send, request_id, body, keeper)
        elif method == "POST":
            await self._scheduled(scope, receive, send, request_id, body)
        else:
            await pass_through(self._roster, scope, receive, send, request_id, body)

    def interrupt(self, error: ApiError) -> None:
        """End every request in flight with this error, now. They are charged like aborted ones."""
        for request_id, (exchange, record) in list(self._exchanges.items()):
            self._aborts.expect(exchange.engine_id or request_id, record)
            exchange.interrupt(error)

    # -- scheduled -----------------------------------------------------------------------------------------------

    async def _scheduled(self, scope: Scope, receive: Receive, send: Send, request_id: str, body: bytes) -> None:
        started = time.monotonic()
        deadline = deadline_at_seconds(scope["headers"], started, time.time())
        request = self._parse(scope, body)
        self._names.check_any()
        model = request.model or self._names.default()
        path = scope["path"]
        record = ExchangeRecord(
            request_id=request_id,
            endpoint=path if path in MODEL_ROUTES else "other",
            tenant=_NO_KEYS_TENANT,
            model=model,
            tier=request.tier,
            row_id=secrets.token_hex(16),
            arrived_unix_seconds=time.time(),
            is_stream=request.stream,
        )
        # Two callers may use the same id, and one of them leave; engine, scheduler and charges must tell them apart.
        unique_id = request_id
        if request_id in self._exchanges or self._aborts.knows(request_id):
            unique_id = f"{request_id[:100]}.{secrets.token_hex(4)}"
        exchange = Exchange(self._driver, self._roster, self._aborts, self._books, record, started, [])
        self._exchanges[unique_id] = exchange, record
        watch = DisconnectWatch(receive)
        try:
            tokens = request.prompt.tokens
            if deadline is None or deadline > started:  # one that is past needs no other reason
                tokens = await exchange.prepare(self._limits.prompt_tokens(path, model, request, body))
            arrival = RequestArrived(
                unique_id,
                model,
                request.tier,
                prompt_bytes=request.prompt.text_bytes,
                max_output_tokens=request.max_output_tokens,
                deadline_at_seconds=deadline,
                tenant=record.tenant,
                prompt_tokens=tokens,
            )
            body = with_tier_asked(body, request.tier_name, request.tier, path)
            await exchange.serve(scope, body, arrival, send)
        except asyncio.CancelledError:
            # A caller may close as soon as the stream has told its energy, the last thing in it.
            record.outcome = "aborted" if record.energy_joules is None else "completed"
            if exchange.has_failed:
                record.outcome = "failed"
            if record.energy_joules is None:
                self._aborts.expect(exchange.engine_id or unique_id, record)
            if not watch.is_gone:
                raise
        except ApiError as error:
            record.status, record.error_code = error.status, error.code
            record.outcome = "refused" if error.status < 500 else record.outcome
            record.total_seconds = time.monotonic() - started
            await self._books.keep(record)
            raise
        finally:
            watch.close()
            del self._exchanges[unique_id]
            record.total_seconds = time.monotonic() - started
            self._books.keep_later(record)
            if not self._names.knows(model):
                record.model = "unknown"
            self._metrics.count(record)

    def _parse(self, scope: Scope, body: bytes) -> GenerationRequest:
        content_type = header(scope["headers"], b"content-type") or b"application/json"
        if not body or (b"json" not in content_type and not body.startswith(b"{")):
            return parse_form_request(content_type, body)
        return parse_generation_request(body, scope["path"])


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
