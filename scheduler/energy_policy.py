"""Fill before spill: the fullest worker that still meets the targets, because joules per token fall with the batch.

From batch 8 to batch 128 an H100 spends 4.8 times fewer joules on a token of Llama-3.1-8B, while the time between
tokens grows 2.3-fold (ML.ENERGY Benchmark, leaderboard data v3): as long as the targets leave room, another sequence is
cheapest where most run already, and dearest on a worker that was idle.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from scheduler.least_loaded import LeastLoaded
from scheduler.placement import Hold, Placement
from scheduler.pool import Pool
from scheduler.request import Request
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker

# So many workers are looked at from the full end and from the empty end, and between them as many as a bisection takes:
# a decision must not look at a thousand.
_LOOKED_AT: Final = 8
# What predictions may use up of the targets. The targets are of the slowest of a hundred, predictions of the mean.
_TTFT_RATIO: Final = 0.5
_TPOT_RATIO: Final = 0.75
# A request that can wait leaves this much more to those that cannot: prompts come in bursts.
_FLEX_TTFT_RATIO: Final = 0.25
_FLEX_TPOT_RATIO: Final = 0.65
# Enough held requests to be worth a batch of their own where no other runs: half of the way from 1 to 128 sequences, by
# the logarithm that joules per token follow.
_FLEX_BATCH: Final = 12
# Above this share of its KV cache an engine soon preempts, and computes the preempted again.
_KV_CACHE_RATIO: Final = 0.9


class FillBeforeSpill:
    """The policy `energy`. Where workers tell nothing that can be believed, it is least-loaded."""

    parks_workers = True

    def __init__(self, targets: LatencyTargets) -> None:
        self._ttft_seconds = targets.ttft_seconds * _TTFT_RATIO
        self._tpot_seconds = targets.tpot_seconds * _TPOT_RATIO
        self._target_tpot_seconds = targets.tpot_seconds
        self._flex_ttft_seconds = targets.ttft_seconds * _FLEX_TTFT_RATIO
        self._flex_tpot_seconds = targets.tpot_seconds * _FLEX_TPOT_RATIO
        self._fallback = LeastLoaded()

    def choose(self, request: Request, pool: Pool, now_seconds: float, /) -> Placement | Hold:
        fullest = [worker for worker in islice(pool.fullest(), _LOOKED_AT) if request.may_use(worker)]
        trusted = [worker for worker in fullest if worker.model.is_trusted(now_seconds)]
        if not trusted:
            return Placement(self._fallback.choose(request, pool, now_seconds).worker_id, "no_telemetry")
        if request.may_wait:
            return self._join_or_hold(request, trusted, pool, now_seconds)
        for worker in trusted:
            if self._meets_targets(worker, request, pool.margin.ratio, now_seconds):
                return Placement(worker.worker_id, "fills" if worker.running_requests else "opens")
        return self._spill(request, pool, now_seconds)

    def _spill(self, request: Request, pool: Pool, now_seconds: float) -> Placement:
        """None of the fullest will do: the next that does, or else the one that is soonest."""

        def will_do(worker: Worker) -> bool:
            is_usable = request.may_use(worker) and worker.model.is_trusted(now_seconds)
            return is_usable and self._meets_targets(worker, request, pool.margin.ratio, now_seconds)

        emptiest = [worker for worker in islice(pool.emptiest(), _LOOKED_AT) if request.may_use(worker)]
        found = _next_fullest(pool, will_do) or next((worker for worker in emptiest if will_do(worker)), None)
        if found is not None:
            return Placement(found.worker_id, "spills")
        if not emptiest:  # it failed on all of these; somewhere in the pool is one it may use
            emptiest = [next(worker for worker in pool.emptiest() if request.may_use(worker))]
        soonest = min(emptiest, key=lambda one: one.first_token_seconds(request.prompt_tokens, now_seconds))
        return Placement(soonest.worker_id, "best_effort")

    def _join_or_hold(
        self, request: Request, fullest: list[Worker], pool: Pool, now_seconds: float
    ) -> Placement | Hold:
        for worker in fullest:
            if worker.running_requests == 0:
                if pool.waiting_requests < _FLEX_BATCH or pool.running_requests > 0:
                    return Hold("flex_waits")
                return Placement(worker.worker_id, "flex_forms")
            if self._has_slack(worker, request, pool, now_seconds):
                return Placement(worker.worker_id, "flex_joins")

        def is_idle_or_joined(worker: Worker) -> bool:
            is_usable = request.may_use(worker) and worker.model.is_trusted(now_seconds)
            return worker.running_requests == 0 or (is_usable and self._has_slack(worker, request, pool, now_seconds))

        found = _next_fullest(pool, is_idle_or_joined)
        if found is None or found.running_requests == 0:
            return Hold("flex_waits")
        return Placement(found.worker_id, "flex_joins")

    def _meets_targets(self, worker: Worker, request: Request, margin: float, now_seconds: float) -> bool:
        model, running = worker.model, worker.running_requests
        if model.kv_cache_usage_ratio >= _KV_CACHE_RATIO:
            return False
        if worker.token_seconds(now_seconds) > self._tpot_seconds * margin:
            return False
        first_token_seconds = worker.first_token_seconds(request.prompt_tokens, now_seconds)
        budget_seconds = model.stall_budget_seconds(running, request.output_tokens, self._target_tpot_seconds)
        if running and first_token_seconds > budget_seconds * margin:
            return False
        # One that has waited too long already is not helped by an empty worker: what it adds is what counts then.
        waited_seconds = now_seconds - request.arrived_at_seconds
        ttft_seconds = self._ttft_seconds * margin
        return first_token_seconds <= max(ttft_seconds - waited_seconds, ttft_seconds / 2)

    def _has_slack(self, worker: Worker, request: Request, pool: Pool, now_seconds: float) -> bool:
        """Whether the worker has room to spare; the fuller the queue, the less is spared."""
        pressure, margin = pool.pressure_ratio, pool.margin.ratio
        tpot_seconds = self._flex_tpot_seconds + pressure * (self._tpot_seconds - self._flex_tpot_seconds)
        ttft_seconds = self._flex_ttft_seconds + pressure * (self._ttft_seconds - self._flex_ttft_seconds)
        return (
            worker.model.kv_cache_usage_ratio < _KV_CACHE_RATIO
            and worker.token_seconds(now_seconds) <= tpot_seconds * margin
            and worker.first_token_seconds(request.prompt_tokens, now_seconds) <= ttft_seconds * margin
        )


def _next_fullest(pool: Pool, will_do: Callable[[Worker], bool]) -> Worker | None:
    """The fullest that will do beyond those that were looked at, or None; O(log n) looks.

    A bisection, which takes it that where one will do an emptier one will too. It may miss one where that is wrong.
    """
    found, low, high = None, _LOOKED_AT - 1, len(pool)
    while high - low > 1:
        middle = (low + high) // 2
        worker = pool.nth_fullest(middle)
        if will_do(worker):
            found, high = worker, middle
        else:
            low = middle
    return found
