"""When a request's start is of no more use to its caller, from two headers.

The only place where a caller's wall clock meets ours: an instant is converted to the monotonic clock as it arrives.
"""

import math
from collections.abc import Iterable
from typing import Final

from server.api_error import ApiError
from server.asgi import header

_IN_SECONDS: Final = "X-Deadline-Seconds"
_AT_UNIX_SECONDS: Final = "X-Deadline-Unix-Seconds"
# Thirty years: farther away is no deadline but a mistake, or a number that timers cannot hold.
_FARTHEST_SECONDS: Final = 1e9
# In seconds the year 5138; milliseconds since 1970 are beyond it since 1973.
_LAST_UNIX_SECONDS: Final = 1e11


def deadline_at_seconds(
    headers: Iterable[tuple[bytes, bytes]], now_seconds: float, now_unix_seconds: float
) -> float | None:
    """The earlier of the two deadlines on the clock of `now_seconds`, None where neither is given.

    Raises:
        ApiError: 400, naming the header and what was expected.
    """
    deadlines = []
    if (text := header(headers, _IN_SECONDS.lower().encode())) is not None:
        deadlines.append(_number(text, _IN_SECONDS, _FARTHEST_SECONDS, "a number of seconds from now"))
    if (text := header(headers, _AT_UNIX_SECONDS.lower().encode())) is not None:
        expected = "an instant in seconds, not milliseconds, since 1970"
        deadlines.append(_number(text, _AT_UNIX_SECONDS, _LAST_UNIX_SECONDS, expected) - now_unix_seconds)
    return now_seconds + min(deadlines) if deadlines else None


def _number(text: bytes, name: str, most: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= most:  # written so that NaN fails too
        raise ApiError(400, f"{name}: expected {expected}, at most {most:.0e}", "invalid_deadline", name)
    return value
