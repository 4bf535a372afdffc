"""How long a caller may take over a request's head, and over the next byte of its body."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

# Between looks at a connection that waits for nothing; deadlines are looked at when they are due.
_IDLE_LOOK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """For a request's whole head, and for the next byte of its body. What is between requests uvicorn limits."""

    head_timeout_seconds: float = 30.0
    body_stall_seconds: float = 30.0


class Awaited(Enum):
    """What the caller is to send next."""

    HEAD = auto()
    BODY = auto()
    NOTHING = auto()


class SenderWatch:
    """Tells a sender that dawdles from one that works, without I/O or timers: whoever owns it asks now and then.

    A head must be whole in time, however its bytes drip; a body may take as long as it likes while bytes keep coming.
    While we read nothing ourselves the sender is not to blame, and time begins anew with `excuse`.
    """

    __slots__ = ("_limits", "_since_seconds", "awaited")

    def __init__(self, limits: ConnectionLimits, now_seconds: float) -> None:
        self._limits = limits
        self._since_seconds = now_seconds
        self.awaited = Awaited.HEAD

    def head_begins(self, now_seconds: float) -> None:
        self.awaited, self._since_seconds = Awaited.HEAD, now_seconds

    def head_ends(self, now_seconds: float) -> None:
        self.awaited, self._since_seconds = Awaited.BODY, now_seconds

    def body_ends(self) -> None:
        self.awaited = Awaited.NOTHING

    def excuse(self, now_seconds: float) -> None:
        """Of a body, bytes have come; of either, they could not."""
        self._since_seconds = now_seconds

    def remaining_seconds(self, now_seconds: float) -> float:
        """Until the deadline, or until the next look where there is none; 0 or less once it has passed."""
        match self.awaited:
            case Awaited.HEAD:
                return self._since_seconds + self._limits.head_timeout_seconds - now_seconds
            case Awaited.BODY:
                return self._since_seconds + self._limits.body_stall_seconds - now_seconds
            case _:
                return min(_IDLE_LOOK_SECONDS, self._limits.head_timeout_seconds, self._limits.body_stall_seconds)
