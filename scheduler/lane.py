"""The requests that wait for one model, and the workers that serve it.

A lane knows order and room; it decides nothing. Requests of one lane never overtake each other but by tier and
deadline, except one that must avoid the only workers with room: that one is stepped over until another has room.
"""

from collections import Counter
from typing import Final

from scheduler.demand import Demand
from scheduler.ordered_ids import OrderedIds
from scheduler.phases import Phases, WorkerPhase
from scheduler.pool import Pool
from scheduler.request import Request
from scheduler.worker import Worker

Order = tuple[int, float, int]
POWER_CAP: Final = "power_cap"
"""The `held_reason` of a lane whose first request would exceed the power cap."""


class Lane:
    """One model's waiting requests in their order.

    `workers` are those ready now, in the order they came; `pool` are those of them with room. `expected_worker_ids` are
    those and the ones that are parked, starting or lost and may return. Requests with the same workers to avoid wait in
    one group, so that finding whose turn it is looks at the head of each group and never along a queue; nearly always
    there is one group. `held_reason` is why the policy lets the first one wait though there is room.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.workers: list[Worker] = []
        self.pool = Pool()
        self.demand = Demand()
        self.expected_worker_ids: set[str] = set()
        self.phases = Phases()
        self.queued_by_tier: Counter[str] = Counter()
        self.held_reason: str | None = None
        self._was_announced = False
        self._groups: dict[frozenset[int], OrderedIds[Order]] = {}
        self._patient_ids: set[str] = set()

    @property
    def is_empty(self) -> bool:
        return not self._groups

    @property
    def was_announced(self) -> bool:
        """Whether a worker ever served the model."""
        return self._was_announced

    @property
    def has_urgent(self) -> bool:
        """Whether a request that cannot wait does so, and not for want of power: without room there is none to want."""
        lacks_power = self.held_reason == POWER_CAP and len(self.pool) > 0
        return not lacks_power and self.pool.waiting_requests > len(self._patient_ids)

    @property
    def awake_workers(self) -> int:
        """How many are ready and not about to be parked."""
        return self.phases.count(WorkerPhase.READY)

    @property
    def is_abandoned(self) -> bool:
        """Every worker that ever served the model is gone for good."""
        return self._was_announced and not self.expected_worker_ids

    def add_worker(self, worker: Worker) -> None:
        self._was_announced = True
        self.expected_worker_ids.add(worker.worker_id)
        if worker not in self.workers:
            self.workers.append(worker)

    def remove_worker(self, worker: Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            self.pool.discard(worker)

    def add(self, request: Request) -> None:
        group = self._groups.get(request.avoided_ready_numbers)
        if group is None:
            group = self._groups[request.avoided_ready_numbers] = OrderedIds()
        group.push(request.order, request.arrival.request_id)
        if not request.is_due:
            self._patient_ids.add(request.arrival.request_id)
        self.queued_by_tier[request.arrival.tier] += 1
        self.pool.waiting_requests += 1

    def remove(self, request: Request) -> None:
        group = self._groups[request.avoided_ready_numbers]
        group.discard(request.arrival.request_id)
        self._patient_ids.discard(request.arrival.request_id)
        if not group:
            del self._groups[request.avoided_ready_numbers]
        self.queued_by_tier[request.arrival.tier] -= 1
        self.pool.waiting_requests -= 1

    def reorder(self, request: Request) -> None:
        """A waiting request has become due, and so its order has changed."""
        self._patient_ids.discard(request.arrival.request_id)
        self._groups[request.avoided_ready_numbers].push(request.order, request.arrival.request_id)

    def next_offer(self) -> tuple[Order, str] | None:
        """The order and id of the first request that some worker with room may take, or None."""
        if not len(self.pool):
            return None
        best: tuple[Order, str] | None = None
        for avoided, group in self._groups.items():
            head = group.first()
            if head is None or (best is not None and best[0] < head[0]):
                continue
            if self._has_room_beside(avoided):
                best = head
        return best

    def has_room_for(self, request: Request) -> bool:
        """Whether some worker with room may take it."""
        return len(self.pool) > 0 and self._has_room_beside(request.avoided_ready_numbers)

    def waiting_request_ids(self) -> list[str]:
        """In their order; O(n log n)."""
        entries = [entry for group in self._groups.values() for entry in group.entries()]
        return [request_id for _, request_id in sorted(entries)]

    def _has_room_beside(self, avoided: frozenset[int]) -> bool:
        # At most as many are passed over as have failed one request: a handful.
        return not avoided or any(worker.ready_number not in avoided for worker in self.pool.emptiest())
