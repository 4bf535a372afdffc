"""What can go wrong with the ledger, split by whose fault it is."""

from server.errors import StartError, WattlineError


class LedgerUnavailableError(WattlineError):
    """The database does not take rows now; those that could not be written are kept in memory."""


class LedgerRowsRefusedError(WattlineError):
    """The database is well and will not have one of these rows, now or ever."""


class LedgerOpenError(StartError):
    """The database cannot be opened, or is not one this version can use."""
