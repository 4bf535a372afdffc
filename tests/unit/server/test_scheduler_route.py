import json
from dataclasses import dataclass, field
from enum import Enum
from math import inf, nan
from types import MappingProxyType
from typing import Any

import pytest

from server.scheduler_route import to_json_value


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Learned:
    step_seconds: float = inf
    curve: tuple[tuple[int, float], ...] = ((1, 0.5), (2, nan))
    models: frozenset[str] = frozenset({"b", "a"})
    by_pair: Any = field(default_factory=lambda: MappingProxyType({("a", "b"): Colour.RED, 3: None}))


def test_whatever_a_snapshot_holds_becomes_json() -> None:
    body = to_json_value([Learned()])
    assert body == [
        {
            "step_seconds": None,
            "curve": [[1, 0.5], [2, None]],
            "models": ["a", "b"],
            "by_pair": {"a/b": "red", "3": None},
        }
    ]
    json.dumps(body, allow_nan=False)


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "text"])
def test_what_json_has_stays_as_it_is(value: object) -> None:
    assert to_json_value(value) is value
