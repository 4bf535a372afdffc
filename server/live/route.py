"""The route of the live figures."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from server.live.report import LiveReport


def add_live_route(app: FastAPI, report: LiveReport, require_admin: Callable[[Request], None]) -> None:
    """Add it. `require_admin` raises its ApiError for whoever may not see every tenant."""

    @app.api_route(
        "/v1/energy/live",
        methods=["GET", "HEAD"],
        summary="Power, energy, queue, workers, tenants and the latest requests, as they are now.",
    )
    async def live(request: Request) -> JSONResponse:
        require_admin(request)
        return JSONResponse(report.body(), headers={"Cache-Control": "no-store"})
