"""What an engine's `GET /v1/models` may hold: models that clients can ask for and that can be told of again."""

import json
from typing import Any, Final

LONGEST_NAME: Final = 256


def models_in(listing: object) -> list[dict[str, Any]] | None:
    """The models of a listing, every field as the engine gives it; None where it is no listing.

    Left out are those without a name, or with one that does not print, and what JSON in UTF-8 cannot say again.
    """
    found = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(found, list):
        return None
    return [model for model in found if isinstance(model, dict) and _has_name(model) and _can_be_told(model)]


def _has_name(model: dict[str, Any]) -> bool:
    name = model.get("id")
    return isinstance(name, str) and name.isprintable() and 0 < len(name) <= LONGEST_NAME


def _can_be_told(model: dict[str, Any]) -> bool:
    try:
        json.dumps(model, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # a number that is none, half a character
        return False
    return True
