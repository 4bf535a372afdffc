from typing import Any

import pytest

from workers.listing import models_in


def test_models_are_told_as_their_engine_tells_them() -> None:
    models = [{"id": "a", "max_model_len": 8}, {"id": "漢字 b/c"}]
    assert models_in({"object": "list", "data": models}) == models


@pytest.mark.parametrize("listing", [None, [], "text", {}, {"data": None}, {"data": {"id": "a"}}])
def test_what_is_no_listing(listing: object) -> None:
    assert models_in(listing) is None


@pytest.mark.parametrize(
    "model",
    [
        "a",
        {},
        {"id": None},
        {"id": 7},
        {"id": ""},
        {"id": "a" * 257},
        {"id": "\x1b[2J"},
        {"id": "\ud800"},
        {"id": "a", "root": "\ud800"},
        {"id": "a", "created": float("nan")},
    ],
)
def test_what_nobody_can_ask_for_or_tell_again_is_left_out(model: Any) -> None:
    assert models_in({"data": [model, {"id": "b"}]}) == [{"id": "b"}]
