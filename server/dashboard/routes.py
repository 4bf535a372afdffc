"""`/` and the files it is made of. Anybody may have them: they hold no figures, and the page asks for a key itself."""

import os
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PAGE_FOLDER: Final = Path(__file__).with_name("page")

# Nothing from elsewhere, no script and no style inside the page, and whatever a model or a caller wrote can only become
# text: a browser that knows trusted types refuses to read HTML from a string at all.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked again each time, and answered 304: another version of the server brings another page.
    "Cache-Control": "no-cache",
}


class _PageFiles(StaticFiles):
    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_HEADERS)
        return response


def add_dashboard(app: FastAPI) -> None:
    """Add the page and its files."""
    page = _PageFiles(directory=PAGE_FOLDER)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

    app.mount("/dashboard", page)
