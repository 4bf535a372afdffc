"""What a ledger does for those who serve requests."""

from typing import Protocol

from server.ledger.row import LedgerRow


class Ledger(Protocol):
    """Keeps one row a request."""

    async def record(self, row: LedgerRow) -> None:
        """Return once the row survives the sudden end of this process."""

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        """Book energy that the row's worker told of later. It is written with the next rows; nobody waits for it."""


class NoLedger:
    """Keeps nothing: for those who want none."""

    async def record(self, row: LedgerRow) -> None:
        """Return at once."""

    def charge(self, row_id: str, energy_microjoules: int) -> None:
        """Forget it."""
