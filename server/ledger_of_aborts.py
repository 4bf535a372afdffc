"""Requests cut off by their caller or by us, whose energy the worker has yet to tell: they are charged all the same."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

from server.exchange_record import ExchangeRecord

K = TypeVar("K")
T = TypeVar("T")

_MAX_EXPECTED: Final = 4096
# More than end between two reports of a worker, so that one of them is never taken for another's of the same id.
_MAX_ENDED: Final = 16_384


class LedgerOfAborts:
    """Matches charges from workers' reports to the requests that caused them.

    `charge(record, joules)` books them. Callers may use an id again, so a record outlives its charge: it is forgotten
    when newer ones need the room, as is one that was aborted before it reached an engine and is never charged. So is
    what was told of a request that is not cut off yet: its caller may take the answer slowly, and leave long after the
    engine has ended it.
    """

    def __init__(self, charge: Callable[[ExchangeRecord, float], None]) -> None:
        self._charge = charge
        self._expected: OrderedDict[str, ExchangeRecord] = OrderedDict()
        self._told: OrderedDict[str, float] = OrderedDict()
        self._answered: OrderedDict[tuple[str, float], None] = OrderedDict()
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

    def answered(self, request_id: str, energy_joules: float) -> None:
        """An answer has told what its request used: a report that tells the same is of that one, not of a later one."""
        if self._told.get(request_id) == energy_joules:
            del self._told[request_id]
        else:
            _add(self._answered, (request_id, energy_joules), None)

    def expect(self, request_id: str, record: ExchangeRecord) -> None:
        """A request was cut off; its worker reports what it used under this id, or has done so already."""
        if record.energy_joules is not None:
            return  # its answer has told
        _add(self._expected, request_id, record)
        told_joules = self._told.pop(request_id, None)
        if told_joules is not None:
            self._charge(record, told_joules)

    def charged(self, request_id: str, energy_joules: float) -> None:
        """A worker reports what a request used; those whose caller got their answer are never expected here."""
        record = self._expected.get(request_id)
        if (request_id, energy_joules) in self._answered:
            del self._answered[request_id, energy_joules]
        elif record is not None:
            self._charge(record, energy_joules)
        else:
            _add(self._told, request_id, energy_joules)


def _add(latest: OrderedDict[K, T], key: K, value: T) -> None:
    latest[key] = value
    latest.move_to_end(key)
    if len(latest) > _MAX_EXPECTED:
        latest.popitem(last=False)
