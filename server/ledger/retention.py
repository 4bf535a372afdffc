"""Deletes rows once they are older than the operator keeps them, a little at a time."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from server.ledger.errors import LedgerRowsRefusedError, LedgerUnavailableError

if TYPE_CHECKING:
    from server.ledger.store import RowStore

logger = logging.getLogger("wattline.ledger")
SECONDS_PER_DAY: Final = 86_400
# Some 10 ms each, so that no request waits long behind one.
BATCH_ROWS: Final = 500
_PERIOD_SECONDS: Final = 3600.0
_BETWEEN_BATCHES_SECONDS: Final = 0.1


class Retention:
    """Prunes every hour, and in between batches as long as there is more."""

    def __init__(self, days: float, now: Callable[[], float], unix_now: Callable[[], float]) -> None:
        self._days = days
        self._now = now
        self._unix_now = unix_now
        self._next_at_seconds = now()

    def seconds_to_next(self) -> float:
        return max(0.0, self._next_at_seconds - self._now())

    def prune_if_due(self, store: "RowStore") -> None:
        """One batch, when it is time for one. A database that is down is asked again later."""
        if self._now() < self._next_at_seconds:
            return
        pause = _PERIOD_SECONDS
        try:
            if store.prune(self._unix_now() - self._days * SECONDS_PER_DAY, BATCH_ROWS) == BATCH_ROWS:
                pause = _BETWEEN_BATCHES_SECONDS
        except (LedgerUnavailableError, LedgerRowsRefusedError) as error:
            logger.warning("old rows of the ledger could not be deleted: %s", error)
        self._next_at_seconds = self._now() + pause
