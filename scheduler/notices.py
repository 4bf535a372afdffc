"""What the operator should hear of, once: a target that no worker can meet, telemetry that makes no sense."""

from scheduler.commands import Notice
from scheduler.targets import LatencyTargets
from scheduler.worker import Worker


class Notices:
    """Remembers what has been said of which worker."""

    def __init__(self, targets: LatencyTargets) -> None:
        self._targets = targets
        self._said: set[tuple[str, str]] = set()

    def of(self, worker: Worker) -> list[Notice]:
        """What there is to say of a worker that has become ready or has reported."""
        notices = []
        best_seconds, target_seconds = worker.model.steps.at(1), self._targets.tpot_seconds
        if best_seconds > target_seconds:
            how = (
                "takes" if worker.model.is_known else f"is believed to take ({worker.model.hardware}, not measured yet)"
            )
            notices.append(
                self._once(
                    worker,
                    "tpot_target_impossible",
                    f"a step over one sequence {how} {best_seconds:.4f} s, more than the target of "
                    f"{target_seconds:.4f} s a token: requests are served as well as can be",
                )
            )
        if worker.model.trouble is not None:
            reason = f"its telemetry cannot be used: {worker.model.trouble}; requests go to the least loaded"
            notices.append(self._once(worker, "telemetry_unusable", reason))
        return [notice for notice in notices if notice is not None]

    def _once(self, worker: Worker, code: str, reason: str) -> Notice | None:
        key = worker.worker_id, code
        if key in self._said:
            return None
        self._said.add(key)
        return Notice(worker.worker_id, code, reason)
