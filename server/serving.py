"""What every exchange is served with."""

from dataclasses import dataclass

from scheduler.driver import SchedulerDriver
from server.ledger_of_aborts import LedgerOfAborts
from server.request_books import RequestBooks
from server.roster import Roster
from server.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Serving:
    """The parts that exchanges share: who places them, who answers them, and where they are written down."""

    driver: SchedulerDriver
    roster: Roster
    aborts: LedgerOfAborts
    books: RequestBooks
    tracing: Tracing
