"""One request as the ledger keeps it. Never its text."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from metering.counter import MICROJOULES_PER_JOULE


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One request that was admitted, and what became of it.

    `row_id` is ours and unique; `request_id` is what the caller knows it by, and callers may use one again. Energy is
    in integer microjoules, as the worker annotated it; None with `energy_reason` where it is not known. Instants are
    seconds of the Unix epoch, durations seconds since arrival. `components_microjoules` adds up to `energy_microjoules`
    less `late_microjoules`: what was charged after the row was written, of which the total alone is told.
    """

    row_id: str
    request_id: str
    arrived_unix_seconds: float
    ended_unix_seconds: float
    tenant: str
    key_id: str | None
    endpoint: str
    model: str
    tier: str
    worker_id: str | None
    outcome: str
    status: int
    error_code: str | None
    is_stream: bool
    prompt_tokens: int | None
    output_tokens: int | None
    energy_microjoules: int | None
    prefill_microjoules: int | None
    decode_microjoules: int | None
    energy_source: str | None
    is_measured: bool | None
    energy_reason: str | None
    uncertainty_ratio: float | None
    carbon_g_co2eq: float | None
    grid_carbon_intensity_gco2perkwhr: float | None
    carbon_source: str | None
    queue_seconds: float | None
    first_token_seconds: float | None
    total_seconds: float
    components_microjoules: Mapping[str, int] = field(default_factory=dict)
    late_microjoules: int = 0

    @property
    def energy_joules(self) -> float | None:
        return None if self.energy_microjoules is None else self.energy_microjoules / MICROJOULES_PER_JOULE


def new_row_id(arrived_unix_seconds: float) -> str:
    """An id of its own for a row. Ids grow with time, so that the database appends to their index."""
    return f"{int(arrived_unix_seconds * 1e6):014x}{secrets.token_hex(8)}"
