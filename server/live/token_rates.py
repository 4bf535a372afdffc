"""Tokens a second of each worker, between two looks at its count of all tokens."""

from collections import deque
from collections.abc import Callable
from typing import Final

# Long enough to be steady, short enough to be of now.
_WINDOW_SECONDS: Final = 10.0
# Workers report once a second: looks closer together see the same count twice, and then two at once.
_LEAST_SECONDS: Final = 2.0
_STALE_SECONDS: Final = 30.0


class TokenRates:
    """Needs nobody to wake it: it learns when somebody looks, and knows nothing at the first look or after a long rest.

    `clock` is monotonic. A count that has fallen is that of a new life of the worker.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looks: dict[str, deque[tuple[float, int]]] = {}

    def look(self, worker_id: str, tokens: int | None) -> float | None:
        """Take in the count of now; tokens a second over the last seconds, None while that is not known."""
        now_seconds = self._clock()
        looks = self._looks.setdefault(worker_id, deque())
        if tokens is None or (looks and (tokens < looks[-1][1] or now_seconds - looks[-1][0] > _STALE_SECONDS)):
            looks.clear()
        if tokens is None:
            return None
        if not looks or now_seconds - looks[-1][0] >= _LEAST_SECONDS / 4:  # however many ask, few looks are kept
            looks.append((now_seconds, tokens))
        while len(looks) > 1 and now_seconds - looks[1][0] >= _WINDOW_SECONDS:
            looks.popleft()
        seconds = now_seconds - looks[0][0]
        return (tokens - looks[0][1]) / seconds if seconds >= _LEAST_SECONDS else None
