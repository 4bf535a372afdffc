"""The FastAPI application: routes and error shapes. Everything it uses is handed to it."""

import logging
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from scheduler.core import Scheduler
from server.access.caller import Caller
from server.access.gate import Gate
from server.api_error import ApiError
from server.dashboard.routes import add_dashboard
from server.energy_routes import add_energy_routes
from server.ledger.ledger import DatabaseLedger, NoLedger
from server.live.report import LiveReport
from server.live.route import add_live_route
from server.metrics import ServerMetrics
from server.models_route import find_model, list_models, no_such_model
from server.openapi import describe
from server.proxy import Proxy, ProxyMiddleware
from server.roster import Roster
from server.scheduler_route import SchedulerReport

logger = logging.getLogger("wattline.server")


@dataclass(frozen=True, slots=True)
class AppParts:
    """What the application serves from."""

    roster: Roster
    scheduler: Scheduler
    metrics: ServerMetrics
    proxy: Proxy
    report: SchedulerReport
    gate: Gate
    ledger: DatabaseLedger | NoLedger
    live: LiveReport


def create_app(parts: AppParts) -> FastAPI:
    """Build the application; it starts nothing and owns nothing."""
    app = FastAPI(
        title="Wattline",
        summary="OpenAI-compatible inference in which every response carries its joules.",
        redirect_slashes=False,
    )
    _add_operations(app, parts)
    _add_models(app, parts)
    add_energy_routes(app, parts.ledger, lambda request: _own_tenant(parts.gate, request))
    # It tells of every tenant, like the metrics.
    add_live_route(app, parts.live, lambda request: _caller(parts.gate, request).require_admin())
    add_dashboard(app)
    # Everything else under /v1 leaves FastAPI here, as plain ASGI: bodies are relayed as bytes and must not be parsed,
    # and routing them through FastAPI's per-request machinery would cost as much as all the rest of the way.
    app.add_middleware(ProxyMiddleware, proxy=parts.proxy)
    _add_error_handlers(app)
    app.openapi_schema = describe(app)
    return app


def _add_operations(app: FastAPI, parts: AppParts) -> None:
    @app.api_route("/health", methods=["GET", "HEAD"], summary="Alive: this process answers.")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route(
        "/ready",
        methods=["GET", "HEAD"],
        summary="Ready: at least one worker can serve or is parked until it is wanted, and the server is not stopping.",
    )
    async def ready() -> JSONResponse:
        workers = [{"id": m.worker_id, "state": m.supervisor.state.value} for m in parts.roster.members()]
        is_ready = any(m.may_serve for m in parts.roster.members()) and not parts.scheduler.is_draining
        return JSONResponse({"ready": is_ready, "workers": workers}, status_code=200 if is_ready else 503)

    @app.get("/metrics", summary="Totals for Prometheus.")
    async def metrics(request: Request) -> Response:
        _caller(parts.gate, request).require_admin()  # it tells of every tenant
        await parts.roster.refresh()
        queued = parts.scheduler.snapshot().queued_requests_by_tier
        return Response(parts.metrics.render(queued.items()), media_type=CONTENT_TYPE_LATEST)

    @app.api_route(
        "/v1/scheduler",
        methods=["GET", "HEAD"],
        summary="The scheduler's state, its latest decisions and their reasons.",
    )
    async def scheduler(request: Request) -> JSONResponse:
        _caller(parts.gate, request).require_admin()
        return JSONResponse(parts.report.body())


def _add_models(app: FastAPI, parts: AppParts) -> None:
    @app.get("/v1/models", summary="The models served.")
    async def models(request: Request) -> JSONResponse:
        tenant = _caller(parts.gate, request).tenant
        listing = await list_models(parts.roster)
        return JSONResponse(listing | {"data": [one for one in listing["data"] if tenant.may_use(one["id"])]})

    @app.get("/v1/models/{model_id:path}", summary="One model.")
    async def model(request: Request, model_id: str) -> JSONResponse:
        tenant = _caller(parts.gate, request).tenant
        if not tenant.may_use(model_id):
            raise no_such_model(model_id)
        return JSONResponse(await find_model(parts.roster, model_id))


def _caller(gate: Gate, request: Request) -> Caller:
    """Who asks.

    Raises:
        ApiError: 401.
    """
    return gate.identify(request.scope["headers"])


def _own_tenant(gate: Gate, request: Request) -> str | None:
    """The one tenant whose rows the caller may see, None for all."""
    caller = _caller(gate, request)
    return None if caller.is_admin else caller.tenant.name


def _add_error_handlers(app: FastAPI) -> None:
    def answer(error: ApiError) -> Response:
        return Response(error.body(), error.status, dict(error.headers), media_type="application/json")

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        messages = {
            404: f"there is no route {request.url.path}",
            405: f"{request.method} is not allowed on {request.url.path}",
        }
        message = messages.get(error.status_code, str(error.detail))
        return answer(ApiError(error.status_code, message, headers=dict(error.headers or {})))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"][1:])
        return answer(ApiError(400, f"{field}: {problem['msg']}", param=field))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        logger.error("unexpected error on %s %s", request.method, request.url.path, exc_info=error)
        return answer(ApiError(500, "an unexpected error happened; the server's log has the details"))
