"""The ready workers of one model that have room, in the orders in which policies look for one.

Kept up to date as places are taken and given back, so that no decision looks at every worker.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from math import inf

from scheduler.margin import Margin
from scheduler.worker import Worker


class Pool:
    """Workers with room by the share of their places that is taken, and by id; looking is O(log n) a worker.

    `waiting_requests` and `running_requests` are how many requests for the model wait and run, on any worker; `margin`
    says how far predictions for it may go, and `most_waiting_requests` is how many may wait at all.
    """

    def __init__(self) -> None:
        self.waiting_requests = 0
        self.running_requests = 0
        self.margin = Margin()
        self.most_waiting_requests = 1024
        # A later worker sorts first among equals, so that from the full end the first to become ready comes first.
        self._by_taken: list[tuple[float, int]] = []
        self._ids: list[str] = []
        self._keys: dict[str, tuple[float, int]] = {}
        self._workers: dict[int, Worker] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def pressure_ratio(self) -> float:
        """How full the queue is with requests for this model alone, from 0 to 1."""
        if self.most_waiting_requests == 0:
            return 1.0
        return min(1.0, self.waiting_requests / self.most_waiting_requests)

    def __contains__(self, worker: object) -> bool:
        return isinstance(worker, Worker) and self._keys.get(worker.worker_id) == (
            worker.taken_ratio,
            -worker.ready_number,
        )

    def refresh(self, worker: Worker) -> None:
        """Take in, move or take out a worker, as its room says now."""
        key = (worker.taken_ratio, -worker.ready_number) if worker.has_room else None
        if self._keys.get(worker.worker_id) == key:
            return
        self.discard(worker)
        if key is not None:
            self._keys[worker.worker_id] = key
            self._workers[key[1]] = worker
            insort(self._by_taken, key)
            insort(self._ids, worker.worker_id)

    def discard(self, worker: Worker) -> None:
        """Take a worker out; one that is not here is no error."""
        key = self._keys.pop(worker.worker_id, None)
        if key is not None:
            del self._by_taken[bisect_left(self._by_taken, key)]
            del self._ids[bisect_left(self._ids, worker.worker_id)]
            del self._workers[key[1]]

    def fullest(self) -> Iterator[Worker]:
        """The largest share taken first; of equals the first that became ready."""
        return (self._workers[number] for _, number in reversed(self._by_taken))

    def nth_fullest(self, index: int) -> Worker:
        """The one at that place in the order of `fullest`, from 0."""
        return self._workers[self._by_taken[-1 - index][1]]

    def emptiest(self) -> Iterator[Worker]:
        """The least share taken first; of equals the first that became ready."""
        start = 0
        while start < len(self._by_taken):
            end = bisect_right(self._by_taken, (self._by_taken[start][0], inf))
            for index in range(end - 1, start - 1, -1):
                yield self._workers[self._by_taken[index][1]]
            start = end

    def from_after(self, worker_id: str) -> Iterator[Worker]:
        """Each worker once, in the order of ids, from the one after `worker_id` round to it."""
        start = bisect_right(self._ids, worker_id)
        for index in range(len(self._ids)):
            one = self._ids[(start + index) % len(self._ids)]
            yield self._workers[self._keys[one][1]]
