"""Placement by load alone: what serves when nothing more is known, and what other routers do."""

from scheduler.placement import Placement
from scheduler.pool import Pool
from scheduler.request import Request


class LeastLoaded:
    """The worker with the least share of its places taken; of equals, the one that became ready first."""

    parks_workers = False

    def choose(self, request: Request, pool: Pool, _now_seconds: float, /) -> Placement:
        chosen = next(worker for worker in pool.emptiest() if request.may_use(worker))
        return Placement(chosen.worker_id, "least_loaded" if len(pool) > 1 else "only_worker")
