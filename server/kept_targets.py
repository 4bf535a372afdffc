"""Whether one request kept to the latency targets, as far as that can be said of it. Pure."""

from collections.abc import Iterator
from typing import Final

from scheduler.targets import LatencyTargets
from scheduler.tiers import FLEX
from server.exchange_record import ExchangeRecord

# As the scheduler has it: more of an answer's time spent on waiting for its caller says more of him than of the engine.
_HELD_UP_RATIO: Final = 0.1


def kept_targets(record: ExchangeRecord, targets: LatencyTargets) -> Iterator[tuple[str, bool]]:
    """(`ttft` or `tpot`, whether it was met) for each target that the request can be held against.

    Only streams can: when the first token of another answer was there nobody saw. `flex` was promised nothing. One that
    ended without a first byte has missed its target if it waited longer, and says nothing if it did not.
    """
    if not record.is_stream or record.tier == FLEX:
        return
    first_seconds = record.first_byte_seconds
    if first_seconds is not None:
        yield "ttft", first_seconds <= targets.ttft_seconds
    elif record.total_seconds > targets.ttft_seconds:
        yield "ttft", False
    rest_tokens = (record.output_tokens or 0) - 1
    if first_seconds is None or rest_tokens < 1 or record.outcome != "completed":
        return
    rest_seconds = record.total_seconds - first_seconds
    if record.held_up_seconds <= _HELD_UP_RATIO * rest_seconds:
        yield "tpot", rest_seconds <= targets.tpot_seconds * rest_tokens
