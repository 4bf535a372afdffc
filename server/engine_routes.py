"""The engines' routes we know of, those of vLLM 0.32, and how a request to each finds its worker.

A route that is not listed passes all the same while an engine is ready that may know it. What is listed is told from
what does not exist even while no engine could say so.
"""

import re
from dataclasses import dataclass
from typing import Final

from server.api_error import ApiError

# Taken by model: those under /v1, and those that vLLM serves only, or also, without it.
_MODEL_PATHS: Final = (
    "/v1/completions",
    "/v1/completions/render",
    "/v1/completions/derender",
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/chat/completions/render",
    "/v1/chat/completions/derender",
    "/v1/responses",
    "/v1/responses/render",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/messages/render",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/systemone",
    "/v2/embed",
    "/v2/rerank",
    "/tokenize",
    "/detokenize",
    "/classify",
    "/generative_scoring",
    "/pooling",
    "/rerank",
    "/score",
)
_STORED: Final = re.compile(r"^/v1/responses/([^/]+)(/cancel)?$")
# Under /v1 everything is the engines', but for what the application answers itself.
_ENGINES: Final = re.compile(r"^/v1/(?!(models|scheduler|energy)(/|$))")


@dataclass(frozen=True, slots=True)
class EngineRoute:
    """A known route. `stored_id` is that of the response it is about, where it is about one that was made before."""

    methods: frozenset[str]
    stored_id: str | None = None


_BY_MODEL: Final = EngineRoute(frozenset({"POST"}))
_READ: Final = frozenset({"GET", "DELETE"})
_CANCEL: Final = frozenset({"POST"})

MODEL_ROUTES: Final = dict.fromkeys(_MODEL_PATHS, _BY_MODEL)
"""Also the closed set of paths that metrics may name."""


def is_engines_path(path: str) -> bool:
    """Whether requests to this path are for the engines to answer."""
    return path in MODEL_ROUTES or _ENGINES.match(path) is not None


def find_route(path: str) -> EngineRoute | None:
    """The known route of a path, None where only an engine could know it."""
    if (route := MODEL_ROUTES.get(path)) is not None:
        return route
    if (stored := _STORED.match(path)) is not None:
        return EngineRoute(_CANCEL if stored[2] else _READ, stored[1])
    return None


def check_method(method: str, path: str, allowed: frozenset[str]) -> None:
    """Refuse a method that the route does not have.

    Raises:
        ApiError: 405, naming those it has.
    """
    if method not in allowed:
        allow = ", ".join(sorted(allowed))
        raise ApiError(405, f"{method} is not allowed on {path}", headers={"Allow": allow})


def no_such_route(path: str) -> ApiError:
    """The answer where no engine is ready that could know better."""
    return ApiError(404, f"there is no route {path}")
