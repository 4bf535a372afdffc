"""The simple policies, and every policy by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from scheduler.energy_policy import FillBeforeSpill
from scheduler.least_loaded import LeastLoaded
from scheduler.placement import Placement, PlacementPolicy
from scheduler.pool import Pool
from scheduler.request import Request
from scheduler.targets import LatencyTargets


class RoundRobin:
    """Each model's workers in turn, in the order of their ids, from the one after the last chosen.

    The turn is remembered as an id, so it survives workers that come, go or are full.
    """

    parks_workers = False

    def __init__(self) -> None:
        self._last_worker_id_by_model: dict[str, str] = {}

    def choose(self, request: Request, pool: Pool, _now_seconds: float, /) -> Placement:
        model = request.arrival.model
        in_turn = pool.from_after(self._last_worker_id_by_model.get(model, ""))
        chosen = next(worker for worker in in_turn if request.may_use(worker))
        self._last_worker_id_by_model[model] = chosen.worker_id
        return Placement(chosen.worker_id, "round_robin" if len(pool) > 1 else "only_worker")


POLICIES: Final[Mapping[str, Callable[[LatencyTargets], PlacementPolicy]]] = MappingProxyType(
    {
        "energy": FillBeforeSpill,
        "least-loaded": lambda _targets: LeastLoaded(),
        "round-robin": lambda _targets: RoundRobin(),
    },
)
"""Every policy by the name that `--policy` takes; each call makes a fresh one for these targets."""
