"""How much of a limit per minute is used: a sliding window counter of constant size.

The rule is the library `limits`'; the storage is ours. The library's own reads the wall clock, keeps a thread busy,
forgets a window whose limit is changed, and cannot count what was more than expected. Two counts stand for the minute:
this fixed minute's and, fading evenly, the one before. So up to twice the limit can fall into sixty seconds that
straddle two fixed minutes, and never more than the limit into one of them.
"""

import math
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.storage.base import SlidingWindowCounterSupport
from limits.strategies import SlidingWindowCounterRateLimiter

WINDOW_SECONDS: Final = 60


class _Window:
    """Counts of one fixed minute, by its number, and of the one before."""

    __slots__ = ("current", "number", "previous")

    def __init__(self) -> None:
        self.number = 0
        self.current = self.previous = 0

    def roll(self, number: int) -> None:
        if number > self.number:
            self.previous = self.current if number == self.number + 1 else 0
            self.current = 0
            self.number = number


class WindowStorage(Storage, SlidingWindowCounterSupport):
    """Windows by key, in this process: two integers each, however much is counted.

    The library's interface has no room for an instant, so `now_seconds` is set before each question.
    """

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self._windows: dict[str, _Window] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        window = self._window(key, expiry)
        if math.floor(window.previous * self._left_seconds(window, expiry) / expiry) + window.current + amount > limit:
            return False
        window.current += amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        window = self._window(key, expiry)
        left_seconds = self._left_seconds(window, expiry)
        return window.previous, left_seconds, window.current, left_seconds + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:  # noqa: ARG002  # the library's signature
        self.clear(key)

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count without asking whether the limit allows it: it has happened."""
        window = self._window(key, expiry)
        window.current += amount
        return window.current

    def give_back(self, key: str, expiry: int, amount: int, number: int) -> None:
        """Uncount what was counted in the fixed minute of this number, if it counts still."""
        window = self._window(key, expiry)
        if number == window.number:
            window.current -= amount
        elif number == window.number - 1:
            window.previous -= amount

    def get(self, key: str) -> int:
        window = self._windows.get(key)
        return 0 if window is None else window.current

    def get_expiry(self, key: str) -> float:
        window = self._windows.get(key)
        return self.now_seconds if window is None else (window.number + 2) * float(WINDOW_SECONDS)

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        forgotten = len(self._windows)
        self._windows.clear()
        return forgotten

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def _left_seconds(self, window: _Window, expiry: int) -> float:
        return min(float(expiry), (window.number + 1) * expiry - self.now_seconds)

    def _window(self, key: str, expiry: int) -> _Window:
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window()
        number = int(self.now_seconds // expiry)
        if number > window.number:
            window.roll(number)
        return window


class _PerMinute(RateLimitItemPerMinute):
    """A limit whose window is known by its owner alone, and so outlives a change of the limit."""

    __slots__ = ()

    def key_for(self, *identifiers: bytes | str | float) -> str:
        return str(identifiers[0])


class RateLimit:
    """One limit of one owner, `key`. Instants are those of one monotonic clock.

    `amount_text` is the amount as headers have it.
    """

    __slots__ = ("_item", "_key", "_limiter", "_storage", "amount", "amount_text")

    def __init__(self, storage: WindowStorage, key: str, amount: int) -> None:
        self._storage = storage
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._key = key
        self._item = _PerMinute(amount)
        self.amount = amount
        self.amount_text = b"%d" % amount

    def take(self, cost: int, now_seconds: float) -> bool:
        """Count as much if the limit allows it; returns whether it does."""
        self._storage.now_seconds = now_seconds
        return self._limiter.hit(self._item, self._key, cost=cost)

    def correct(self, taken: int, taken_at_seconds: float, used: int, now_seconds: float) -> None:
        """Count what was `used` in place of what was `taken` then. Counts even what exceeds the limit."""
        self._storage.now_seconds = now_seconds
        if used > taken:
            self._storage.incr(self._key, WINDOW_SECONDS, used - taken)
        elif used < taken:
            self._storage.give_back(self._key, WINDOW_SECONDS, taken - used, int(taken_at_seconds // WINDOW_SECONDS))

    def remaining(self, now_seconds: float) -> tuple[int, float]:
        """How much may be taken at once, and seconds until nothing of what was taken counts any more."""
        previous, left_seconds, current, fades_in_seconds = self._counts(now_seconds)
        used = math.floor(previous * left_seconds / WINDOW_SECONDS) + current
        full_in_seconds = fades_in_seconds if current else left_seconds if previous else 0.0
        return max(0, self.amount - used), full_in_seconds

    def seconds_until(self, cost: int, now_seconds: float) -> float:
        """Seconds after which `take` would take as much, if nothing else is taken; infinite where it never would."""
        if cost > self.amount:
            return math.inf
        previous, left_seconds, current, _ = self._counts(now_seconds)
        # The counts are rounded down before they are compared, hence the one more.
        room = self.amount - cost - current + 1
        if room > 0:
            return max(0.0, left_seconds - room * WINDOW_SECONDS / previous) if previous else 0.0
        return left_seconds + max(0.0, WINDOW_SECONDS - (room + current) * WINDOW_SECONDS / current)

    def _counts(self, now_seconds: float) -> tuple[int, float, int, float]:
        self._storage.now_seconds = now_seconds
        return self._storage.get_sliding_window(self._key, WINDOW_SECONDS)
