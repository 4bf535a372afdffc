"""A worker's list of requests that ended lately, checked entry by entry as it grows and not anew with every report."""

from typing import Any, Final

from pydantic import TypeAdapter

from server.energy_report import EndedRequest

_ENDED: Final = TypeAdapter(list[EndedRequest])


class RecentRequests:
    """Remembers the list that was told last: the next one begins with some of its end, and then has what is new."""

    def __init__(self) -> None:
        self._told: list[Any] = []
        self._checked: list[EndedRequest] = []

    def read(self, told: Any) -> Any:  # noqa: ANN401  # a worker's JSON
        """The list's entries; what is no list is returned as it came, for others to refuse.

        Raises:
            ValueError: an entry is not shaped like one.
        """
        if not isinstance(told, list):
            return told
        known = _overlap(self._told, told)
        checked = self._checked[len(self._checked) - known :] + _ENDED.validate_python(told[known:])
        self._told, self._checked = told, checked
        return checked


def _overlap(before: list[Any], now: list[Any]) -> int:
    """How many entries at the end of the one list the other begins with: the most that can be."""
    if not before:
        return 0
    last = before[-1]
    for size in range(min(len(before), len(now)), 0, -1):
        if now[size - 1] == last and now[:size] == before[-size:]:
            return size
    return 0
