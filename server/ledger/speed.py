"""What durability costs on this machine: how long `record` takes, with few and with many requests at once."""

import asyncio
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from server.ledger.ledger import Ledger
from server.ledger.row import LedgerRow

WRITERS: Final = (1, 16, 256)
_COMPONENTS: Final = {"gpu": 10_000_000, "cpu": 2_345_678}


@dataclass(frozen=True, slots=True)
class RecordSpeed:
    """Seconds until a row was durable, with so many waiting at a time."""

    writers: int
    rows: int
    rows_per_second: float
    p50_seconds: float
    p99_seconds: float
    max_seconds: float


async def measure_speed(ledger: Ledger, writers: int, seconds: float) -> RecordSpeed:
    """Record rows for that long, each writer one after the other."""
    durations: list[float] = []
    row = _row()
    began = time.monotonic()

    async def write() -> None:
        while (started := time.monotonic()) < began + seconds:
            await ledger.record(replace(row, row_id=secrets.token_hex(16)))
            durations.append(time.monotonic() - started)

    await asyncio.gather(*(write() for _ in range(writers)))
    elapsed = time.monotonic() - began
    durations.sort()
    return RecordSpeed(
        writers=writers,
        rows=len(durations),
        rows_per_second=len(durations) / elapsed,
        p50_seconds=_percentile(durations, 0.5),
        p99_seconds=_percentile(durations, 0.99),
        max_seconds=durations[-1],
    )


def _percentile(in_order: Sequence[float], ratio: float) -> float:
    return in_order[min(len(in_order) - 1, math.ceil(ratio * len(in_order)) - 1)]


def _row() -> LedgerRow:
    """One like any other, as large as they are."""
    now = time.time()
    return LedgerRow(
        row_id="",
        request_id=secrets.token_hex(16),
        arrived_unix_seconds=now - 2.0123,
        ended_unix_seconds=now,
        tenant="ledger-speed",
        key_id="0123456789abcdef",
        endpoint="/v1/chat/completions",
        model="meta-llama/Llama-3.1-8B-Instruct",
        tier="default",
        worker_id="vllm-0",
        outcome="completed",
        status=200,
        error_code=None,
        is_stream=True,
        prompt_tokens=512,
        output_tokens=256,
        energy_microjoules=12_345_678,
        prefill_microjoules=1_234_567,
        decode_microjoules=11_111_111,
        energy_source="nvml",
        is_measured=True,
        energy_reason=None,
        uncertainty_ratio=0.05,
        carbon_g_co2eq=0.000514,
        grid_carbon_intensity_gco2perkwhr=150.0,
        carbon_source="static",
        queue_seconds=0.0123,
        first_token_seconds=0.0456,
        total_seconds=2.0123,
        components_microjoules=_COMPONENTS,
    )
