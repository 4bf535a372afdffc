"""`GET /v1/models` and `/v1/models/{id}`: what the workers serve that are ready or parked, in their own words."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from server.api_error import ApiError
from server.pass_through import no_worker_ready
from server.roster import Member, Roster
from workers.listing import models_in


async def list_models(roster: Roster) -> dict[str, Any]:
    """The models of all workers that are ready or parked, each once, with every field its engine gives.

    Raises:
        ApiError: 503 while there is no such worker.
    """
    serving = [member for member in roster.members() if member.may_serve]
    if not serving:
        raise no_worker_ready()
    asked = _one_of_each(serving)
    await asyncio.gather(*(_refresh(member) for member in asked))
    models: dict[str, dict[str, Any]] = {}
    for member in asked:
        for model in member.listing:
            models.setdefault(str(model["id"]), model)
    return {"object": "list", "data": list(models.values())}


def _one_of_each(serving: Iterable[Member]) -> list[Member]:
    """Workers that serve all models between them, those that can be asked first."""
    chosen: list[Member] = []
    names: set[str] = set()
    for member in sorted(serving, key=lambda one: not one.is_ready):
        if not member.models <= names:
            names |= member.models
            chosen.append(member)
    return chosen


async def _refresh(member: Member) -> None:
    """Ask it anew; one that is parked, or too busy to answer in time, serves what it served before."""
    if not member.is_ready or member.client is None:
        return
    models = models_in(await member.client.get_json("/v1/models"))
    if models is not None:
        member.listing = models


async def find_model(roster: Roster, model_id: str) -> dict[str, Any]:
    """One model by its id.

    Raises:
        ApiError: 404 when no worker that is ready or parked serves it, 503 while there is none.
    """
    listing = await list_models(roster)
    for model in listing["data"]:
        if model["id"] == model_id:
            return dict(model)
    raise no_such_model(model_id)


def no_such_model(model_id: str) -> ApiError:
    """The answer for a model that nobody serves, or that is not open to whoever asks."""
    return ApiError(404, f"the model {json.dumps(model_id)} does not exist", "model_not_found", "model")
