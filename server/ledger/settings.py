"""What an operator may choose about the ledger."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LedgerSettings(BaseModel):
    """`ledger_url` None is a SQLite file in the user's state folder; `none` keeps no ledger.

    `ledger_wait_seconds` is how long an answer may wait for its row to be durable before the database counts as down;
    `ledger_outage` says what becomes of requests while it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ledger_url: str | None = None
    ledger_retention_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    ledger_outage: Literal["serve", "refuse"] = "serve"
    ledger_wait_seconds: float = Field(default=2.0, gt=0, le=60, allow_inf_nan=False)
    ledger_max_pending_rows: int = Field(default=100_000, ge=1)
