"""Where in their lives the workers of one model are, countable without looking at each."""

from bisect import bisect_left, insort
from enum import StrEnum


class WorkerPhase(StrEnum):
    """Where in its life a worker is, as the scheduler sees it."""

    READY = "ready"
    PARKING = "parking"
    PARKED = "parked"
    STARTING = "starting"
    LOST = "lost"


class Phases:
    """Worker ids by phase, in their order; a count is O(1), a move costs a search and the shift of a list."""

    def __init__(self) -> None:
        self._ids: dict[WorkerPhase, list[str]] = {phase: [] for phase in WorkerPhase}
        self._phase_of: dict[str, WorkerPhase] = {}

    def move(self, worker_id: str, phase: WorkerPhase | None) -> None:
        """The worker is in this phase now; None is for one that does not belong here any more."""
        known = self._phase_of.get(worker_id)
        if known is phase:
            return
        if known is not None:
            ids = self._ids[known]
            del ids[bisect_left(ids, worker_id)]
            del self._phase_of[worker_id]
        if phase is not None:
            insort(self._ids[phase], worker_id)
            self._phase_of[worker_id] = phase

    def count(self, phase: WorkerPhase) -> int:
        return len(self._ids[phase])

    def first(self, phase: WorkerPhase, most: int) -> list[str]:
        """Up to so many of those in the phase, by id."""
        return self._ids[phase][: max(0, most)]
