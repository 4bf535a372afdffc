"""Every request that waits, by the instant at which waiting ends: refused, or no longer to be held back."""

from scheduler.departure_pace import DeparturePace
from scheduler.ordered_ids import OrderedIds
from scheduler.request import Request

_Due = OrderedIds[tuple[float, int]]


class WaitingList:
    """All queued requests of all models. `pace` is how fast they are served, for an honest `Retry-After`."""

    def __init__(self) -> None:
        self.pace = DeparturePace()
        self._expiries: _Due = OrderedIds()
        self._dues: _Due = OrderedIds()

    def __len__(self) -> int:
        return len(self._expiries)

    def add(self, request: Request, expires_at_seconds: float) -> None:
        """It waits until `expires_at_seconds`; it is held back until it is due at most."""
        if not self._expiries:
            self.pace.queue_formed()
        request_id = request.arrival.request_id
        self._expiries.push((expires_at_seconds, request.arrival_number), request_id)
        if not request.is_due:
            self._dues.push((request.due_at_seconds, request.arrival_number), request_id)

    def remove(self, request: Request) -> None:
        self._expiries.discard(request.arrival.request_id)
        self._dues.discard(request.arrival.request_id)

    def next_wakeup(self) -> float | None:
        instants = [first[0][0] for one in (self._expiries, self._dues) if (first := one.first()) is not None]
        return min(instants, default=None)

    def take_expired(self, now_seconds: float) -> str | None:
        """The id of one whose patience has ended, longest ago first; it stays until it is removed."""
        first = self._expiries.first()
        return first[1] if first is not None and first[0][0] <= now_seconds else None

    def take_due(self, now_seconds: float) -> str | None:
        """The id of one that may not be held back any longer; told once."""
        first = self._dues.first()
        if first is None or first[0][0] > now_seconds:
            return None
        self._dues.discard(first[1])
        return first[1]
