"""A priority queue of request ids from which any id can be removed without a search."""

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")

# Below this many dead entries a rebuild costs more than it frees.
_MIN_DEAD_ENTRIES_TO_REBUILD = 64


class OrderedIds(Generic[KeyT]):
    """Ids by key, least first; every operation is O(log n) amortised, removal O(1).

    Removal only forgets the id; its heap entry is dead and dropped when it surfaces, or by a rebuild once dead
    entries outnumber the living. Keys must be comparable.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[KeyT, str]] = []
        self._living: dict[str, tuple[KeyT, str]] = {}

    def __len__(self) -> int:
        return len(self._living)

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._living

    def push(self, key: KeyT, request_id: str) -> None:
        """Add an id, or move it to another key."""
        entry = (key, request_id)
        self._living[request_id] = entry
        heappush(self._heap, entry)
        self._rebuild_if_mostly_dead()

    def discard(self, request_id: str) -> None:
        """Remove an id; one that is not here is no error."""
        if self._living.pop(request_id, None) is not None:
            self._rebuild_if_mostly_dead()

    def key(self, request_id: str) -> KeyT | None:
        """The key of an id, None where it is not here."""
        entry = self._living.get(request_id)
        return None if entry is None else entry[0]

    def first(self) -> tuple[KeyT, str] | None:
        """The entry with the least key, or None where nothing is left."""
        heap = self._heap
        while heap:
            entry = heap[0]
            # Identity, not equality: an id pushed again under the same key has one living entry, not two.
            if self._living.get(entry[1]) is entry:
                return entry
            heappop(heap)
        return None

    def entries(self) -> list[tuple[KeyT, str]]:
        """Every entry, in no particular order; O(n)."""
        return list(self._living.values())

    def _rebuild_if_mostly_dead(self) -> None:
        dead_entries = len(self._heap) - len(self._living)
        if dead_entries > _MIN_DEAD_ENTRIES_TO_REBUILD and dead_entries > len(self._living):
            self._heap = list(self._living.values())
            heapify(self._heap)
