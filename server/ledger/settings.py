"""What an operator may choose about the ledger."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Synchronous = Literal["normal", "full"]
Outage = Literal["serve", "refuse"]
RetentionDays = Annotated[float | None, Field(gt=0, allow_inf_nan=False)]
WaitSeconds = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]
PendingRows = Annotated[int, Field(ge=1)]


class LedgerSettings(BaseModel):
    """`ledger_url` None is a SQLite file in the user's state folder; `none` keeps no ledger.

    With `ledger_synchronous` full each commit to SQLite waits for the disk, so that it survives a power cut too.

    `ledger_wait_seconds` is how long an answer may wait for its row to be durable before the database counts as down;
    `ledger_outage` says what becomes of requests while it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ledger_url: str | None = None
    ledger_retention_days: RetentionDays = None
    ledger_synchronous: Synchronous = "normal"
    ledger_outage: Outage = "serve"
    ledger_wait_seconds: WaitSeconds = 2.0
    ledger_max_pending_rows: PendingRows = 100_000
