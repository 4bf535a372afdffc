"""Requests cut off by their caller or by us, whose energy the worker has yet to tell: they are charged all the same."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from server.exchange_record import ExchangeRecord

_MAX_EXPECTED: Final = 4096
# More than end between two reports of a worker, so that one of them is never taken for another's of the same id.
_MAX_ENDED: Final = 16_384


class LedgerOfAborts:
    """Matches charges from workers' reports to the requests that caused them.

    `charge(record, joules)` books them. Callers may use an id again, so a record outlives its charge: it is forgotten
    when newer ones need the room, as is one that was aborted before it reached an engine and is never charged.
    """

    def __init__(self, charge: Callable[[ExchangeRecord, float], None]) -> None:
        self._charge = charge
        self._expected: OrderedDict[str, ExchangeRecord] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    def knows(self, request_id: str) -> bool:
        """Whether a report under this id would be booked, or may still come for a request that has ended."""
        return request_id in self._expected or request_id in self._ended

    def ended(self, request_id: str) -> None:
        """A request was over under this id, in whatever way: its worker may tell of it later."""
        self._ended[request_id] = None
        self._ended.move_to_end(request_id)
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)

    def expect(self, request_id: str, record: ExchangeRecord) -> None:
        """A request was cut off; its worker will report what it used under this id."""
        self._expected[request_id] = record
        self._expected.move_to_end(request_id)
        if len(self._expected) > _MAX_EXPECTED:
            self._expected.popitem(last=False)

    def charged(self, request_id: str, energy_joules: float) -> None:
        """A worker reports what a request used; those whose caller got their answer are not expected here."""
        record = self._expected.get(request_id)
        if record is not None:
            self._charge(record, energy_joules)
