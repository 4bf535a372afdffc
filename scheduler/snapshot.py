"""What the scheduler holds at one instant, for metrics and for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from scheduler.worker import Worker


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """A ready worker.

    `generation` counts its lives, from 1. The `reported` numbers are the engine's own, None before its first report.
    """

    worker_id: str
    generation: int
    models: tuple[str, ...]
    running_requests: int
    max_running_requests: int
    reported_running_requests: int | None
    reported_waiting_requests: int | None

    @classmethod
    def of(cls, worker: Worker) -> Self:
        reported = worker.reported
        return cls(
            worker_id=worker.worker_id,
            generation=worker.generation,
            models=tuple(sorted(worker.models)),
            running_requests=worker.running_requests,
            max_running_requests=worker.max_running_requests,
            reported_running_requests=None if reported is None else reported.running_requests,
            reported_waiting_requests=None if reported is None else reported.waiting_requests,
        )


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """Queue and workers; a tier nobody waits in is not listed, nor is a worker that is not ready.

    `running_requests` also counts those whose worker was lost and whose end is not reported yet, so it may exceed
    the sum over `workers`.
    """

    queued_requests_by_tier: Mapping[str, int]
    queued_requests: int
    running_requests: int
    workers: tuple[WorkerSnapshot, ...]
    is_draining: bool
