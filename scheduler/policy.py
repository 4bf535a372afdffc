"""Where a request goes among the workers that have room for it.

A policy sees only what it is given: the request, the candidates, the time. It keeps no count of its own of what runs
where, reads no clock, and knows neither queues nor events.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from scheduler.events import RequestArrived, WorkerReported


class WorkerView(Protocol):
    """What a policy may read of a worker, valid during the call only."""

    @property
    def worker_id(self) -> str: ...

    @property
    def running_requests(self) -> int:
        """Our requests dispatched there and not reported gone."""

    @property
    def max_running_requests(self) -> int: ...

    @property
    def reported(self) -> WorkerReported | None:
        """The engine's latest own count, None before the first."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A policy's choice; `reason` is one of a few short labels, fit for a metric."""

    worker_id: str
    reason: str


class PlacementPolicy(Protocol):
    """Chooses a worker for one request."""

    def choose(
        self, request: RequestArrived, candidates: Sequence[WorkerView], now_seconds: float, /
    ) -> Placement | None:
        """One of `candidates`, or None to hold the request and all behind it that want the same model.

        `candidates` is never empty; each serves the model and has room; their order is the order in which they became
        ready. The same calls in the same order give the same answers. A held request is offered again when
        something changed and at the scheduler's next wake-up.
        """


class LeastLoaded:
    """The candidate with the least share of its places taken; of equals, the one that became ready first."""

    def choose(
        self, _request: RequestArrived, candidates: Sequence[WorkerView], _now_seconds: float, /
    ) -> Placement | None:
        best = candidates[0]
        if len(candidates) == 1:
            return Placement(best.worker_id, "only_worker")
        best_taken, best_places = best.running_requests, best.max_running_requests
        for worker in candidates[1:]:
            taken, places = worker.running_requests, worker.max_running_requests
            # Ratios compared by cross-multiplication: exact, so that equals are equal.
            if taken * best_places < best_taken * places:
                best, best_taken, best_places = worker, taken, places
        return Placement(best.worker_id, "least_loaded")


class RoundRobin:
    """Each model's candidates in turn, in the order of their ids, from the one after the last chosen.

    The turn is remembered as an id, so it survives workers that come, go or are full.
    """

    def __init__(self) -> None:
        self._last_worker_id_by_model: dict[str, str] = {}

    def choose(
        self, request: RequestArrived, candidates: Sequence[WorkerView], _now_seconds: float, /
    ) -> Placement | None:
        worker_ids = sorted(worker.worker_id for worker in candidates)
        last_worker_id = self._last_worker_id_by_model.get(request.model, "")
        chosen = next((worker_id for worker_id in worker_ids if worker_id > last_worker_id), worker_ids[0])
        self._last_worker_id_by_model[request.model] = chosen
        return Placement(chosen, "round_robin" if len(worker_ids) > 1 else "only_worker")


POLICIES: Final[Mapping[str, Callable[[], PlacementPolicy]]] = MappingProxyType(
    {"least-loaded": LeastLoaded, "round-robin": RoundRobin},
)
"""Every policy by the name that `--policy` takes; each call makes a fresh one."""
