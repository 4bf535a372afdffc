"""A worker's list of requests that ended lately: what is new in it since it was told last. Only that is checked."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter

from server.energy_report import EndedRequest

_ENDED: Final = TypeAdapter(list[EndedRequest])


@dataclass(frozen=True, slots=True)
class EndedRequests:
    """The list as it was told. The next one usually begins with some of its end, and then has what is new."""

    told: list[Any] = field(default_factory=list)

    def fresh_of(self, told: Any) -> list[EndedRequest]:  # noqa: ANN401  # a worker's JSON
        """The entries of the next list that are not in this one; counted, as callers may use one id again.

        Raises:
            ValueError: it is no list, or a new entry is not shaped like one.
        """
        known = _overlap(self.told, told) if isinstance(told, list) else 0
        if known or not self.told:
            return _ENDED.validate_python(told[known:] if known else told)
        # In another order, or all of it is new.
        fresh = Counter(map(_key, now := _ENDED.validate_python(told)))
        fresh -= Counter(map(_key, _ENDED.validate_python(self.told)))
        return [one for one in now if _take_one(fresh, _key(one))]


def _key(one: EndedRequest) -> tuple[str, str, int, int]:
    return one.request_id, one.outcome, one.prefill_microjoules, one.decode_microjoules


def _take_one(left: Counter[tuple[str, str, int, int]], key: tuple[str, str, int, int]) -> bool:
    if left[key] <= 0:
        return False
    left[key] -= 1
    return True


def _overlap(before: list[Any], now: list[Any]) -> int:
    """How many entries at the end of the one list the other begins with: the most that can be."""
    if not before:
        return 0
    last = before[-1]
    for size in range(min(len(before), len(now)), 0, -1):
        if now[size - 1] == last and now[:size] == before[-size:]:
            return size
    return 0
