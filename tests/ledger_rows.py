"""Rows for tests of the ledger."""

from dataclasses import replace
from typing import Any, Final

from server.ledger.row import LedgerRow

NOON: Final = 1_767_268_800.0  # 2026-01-01 12:00 UTC

_ROW: Final = LedgerRow(
    row_id="row-0",
    request_id="req-0",
    arrived_unix_seconds=NOON - 2.5,
    ended_unix_seconds=NOON,
    tenant="research",
    key_id="key-1",
    endpoint="/v1/chat/completions",
    model="smollm2",
    tier="default",
    worker_id="vllm-0",
    outcome="completed",
    status=200,
    error_code=None,
    is_stream=True,
    prompt_tokens=12,
    output_tokens=100,
    energy_microjoules=3_000_007,
    prefill_microjoules=1_000_002,
    decode_microjoules=2_000_005,
    energy_source="nvml",
    is_measured=True,
    energy_reason=None,
    uncertainty_ratio=0.05,
    carbon_g_co2eq=0.000125,
    grid_carbon_intensity_gco2perkwhr=150.0,
    carbon_source="static",
    queue_seconds=0.125,
    first_token_seconds=0.5,
    total_seconds=2.5,
    components_microjoules={"gpu": 2_500_000, "cpu": 500_007},
)


def ledger_row(number: int, **changes: Any) -> LedgerRow:
    """A request that was completed; `number` makes its ids."""
    return replace(_ROW, row_id=f"row-{number}", request_id=f"req-{number}", **changes)


def aborted_row(number: int, **changes: Any) -> LedgerRow:
    """A request whose caller left, so that its energy is not known yet."""
    unknown: dict[str, Any] = dict.fromkeys(
        ("output_tokens", "energy_microjoules", "prefill_microjoules", "decode_microjoules", "energy_source")
    )
    unknown |= {"is_measured": None, "carbon_g_co2eq": None, "components_microjoules": {}}
    unknown |= {"outcome": "aborted", "energy_reason": "the caller left"}
    return ledger_row(number, **(unknown | changes))
