"""How many engines it takes: the smallest fleet that keeps to both targets under a policy."""

from collections.abc import Callable, Sequence
from typing import Final

from bench.simulation.errors import SimulationSettingError
from bench.simulation.figures import PROMISED_RATIO, LatencyFigures
from bench.simulation.request_log import RequestLog
from bench.simulation.study import StudySettings, run_policy
from bench.simulation.workload import PlannedRequest
from scheduler.targets import LatencyTargets

MOST_WORKERS: Final = 1024


def smallest(meets: Callable[[int], bool], most: int) -> int | None:
    """The least number from 1 to `most` that meets, by doubling and bisection; None where `most` does not.

    Holds where more is never worse. A fleet may break that by a hair, since other engines get other requests; then the
    answer meets, and the number below it does not.
    """
    high = 1
    while not meets(high):
        if high == most:
            return None
        high = min(2 * high, most)
    low = high // 2  # does not meet, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        if meets(middle):
            high = middle
        else:
            low = middle
    return high


def smallest_fleet(settings: StudySettings, policy: str, requests: Sequence[PlannedRequest]) -> int:
    """So many engines serve 99 % of the requests that are not flex within each target.

    Raises:
        SimulationSettingError: no fleet does, or all requests are flex.
    """
    urgent = sum(request.tier != "flex" for request in requests)
    if not urgent:
        raise SimulationSettingError("--size-fleet needs requests that are not flex: expected a --flex-share below 1")

    def meets(workers: int) -> bool:
        ran = run_policy(settings, policy, workers, requests, _TooManyMisses(settings.targets, urgent))
        logs = [log for log in ran.run.requests if not log.is_flex]
        return not ran.run.gave_up and bool(LatencyFigures.of(logs, settings.targets).targets_met)

    found = smallest(meets, MOST_WORKERS)
    if found is None:
        targets = settings.targets
        raise SimulationSettingError(
            f"--size-fleet: {MOST_WORKERS} engines do not keep to p99 TTFT {targets.ttft_seconds} s and p99 TPOT "
            f"{targets.tpot_seconds} s either, expected targets within reach of one engine"
        )
    return found


class _TooManyMisses:
    """True as soon as a target cannot be met any more, however the rest goes."""

    def __init__(self, targets: LatencyTargets, requests: int) -> None:
        self._targets = targets
        self._most = (1 - PROMISED_RATIO) * requests
        self._ttft_misses = 0
        self._tpot_misses = 0

    def __call__(self, log: RequestLog) -> bool:
        if not log.is_flex:
            self._ttft_misses += not log.meets_ttft(self._targets)
            self._tpot_misses += not log.meets_tpot(self._targets)
        return max(self._ttft_misses, self._tpot_misses) > self._most + 1e-6
