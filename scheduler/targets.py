"""The latency that placement must keep to."""

from dataclasses import dataclass
from math import inf

from scheduler.errors import SchedulerSettingError


@dataclass(frozen=True, slots=True)
class LatencyTargets:
    """What the operator promises `priority` and `default` requests, as the 99th percentile over requests.

    Time to first token counts from arrival. Time per output token is a request's mean over its tokens after the first.

    Raises:
        SchedulerSettingError: a target is not finite and above zero.
    """

    ttft_seconds: float = 1.0
    tpot_seconds: float = 0.05

    def __post_init__(self) -> None:
        for name in ("ttft_seconds", "tpot_seconds"):
            value = getattr(self, name)
            if not 0 < value < inf:  # written so that NaN fails too
                message = f"slo_{name} is {value}, expected finite seconds above 0"
                raise SchedulerSettingError(message)
