"""One generation of a worker, as the scheduler counts it.

A worker that is lost and comes back under its name is a new `Worker`. A request keeps the object it was placed on,
so whatever is reported late about the old generation changes only a count that nobody reads any more.
"""

from dataclasses import dataclass

from scheduler.events import WorkerReady, WorkerReported


@dataclass(slots=True, eq=False)
class Worker:
    """A ready worker and the places taken on it; satisfies `scheduler.policy.WorkerView`.

    `generation` is 1 for the first life under this name. `ready_number` is unique to each `WorkerReady` of any
    worker. `running_requests` counts what was dispatched here and not reported gone.
    """

    worker_id: str
    generation: int
    ready_number: int
    models: frozenset[str]
    max_running_requests: int
    running_requests: int = 0
    reported: WorkerReported | None = None

    def refresh(self, ready: WorkerReady, ready_number: int) -> None:
        """Take over what a worker that is still here announced again; the places taken stay taken."""
        self.ready_number = ready_number
        self.models = ready.models
        self.max_running_requests = ready.max_running_requests
