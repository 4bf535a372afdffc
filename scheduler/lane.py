"""The requests that wait for one model, and the workers that serve it.

A lane knows order and room; it decides nothing. Requests of one lane never overtake each other, except one that must
avoid the only workers with room: that one is stepped over until another worker has room.
"""

from dataclasses import dataclass

from scheduler.ordered_ids import OrderedIds
from scheduler.request import Request
from scheduler.worker import Worker


@dataclass(frozen=True, slots=True)
class Offer:
    """The request whose turn it is and the workers it may go to, all with room."""

    arrival_number: int
    request_id: str
    candidates: list[Worker]


class Lane:
    """One model's waiting requests in order of arrival.

    `workers` are those ready now, in the order they came. `expected_worker_ids` are those and the lost ones that may
    return. Requests with the same workers to avoid wait in one group, so that finding whose turn it is looks at
    the head of each group and never along a queue; nearly always there is one group.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.workers: list[Worker] = []
        self.expected_worker_ids: set[str] = set()
        self._was_announced = False
        self._groups: dict[frozenset[int], OrderedIds[int]] = {}

    @property
    def is_empty(self) -> bool:
        return not self._groups

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

    def workers_with_room(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.running_requests < worker.max_running_requests]

    def add(self, request: Request) -> None:
        group = self._groups.get(request.avoided_ready_numbers)
        if group is None:
            group = self._groups[request.avoided_ready_numbers] = OrderedIds()
        group.push(request.arrival_number, request.arrival.request_id)

    def remove(self, request: Request) -> None:
        group = self._groups[request.avoided_ready_numbers]
        group.discard(request.arrival.request_id)
        if not group:
            del self._groups[request.avoided_ready_numbers]

    def next_offer(self) -> Offer | None:
        """The oldest request that some worker has room for, or None."""
        room = self.workers_with_room()
        if not room:
            return None
        best: Offer | None = None
        for avoided, group in self._groups.items():
            head = group.first()
            if head is None or (best is not None and best.arrival_number < head[0]):
                continue
            candidates = [worker for worker in room if worker.ready_number not in avoided] if avoided else room
            if candidates:
                best = Offer(*head, candidates)
        return best

    def waiting_request_ids(self) -> list[str]:
        """In order of arrival; O(n log n)."""
        entries = [entry for group in self._groups.values() for entry in group.entries()]
        return [request_id for _, request_id in sorted(entries)]
