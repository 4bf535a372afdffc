"""The refusals, with their sentences: one function per cause, each pure."""

from collections.abc import Collection
from math import ceil, inf

from scheduler.commands import Reject, RejectCause
from scheduler.events import RequestArrived

# A drained process is replaced by one that loads a model for tens of seconds; another replica can answer at once.
_RETRY_AFTER_DRAIN_SECONDS = 10


def draining(arrival: RequestArrived) -> Reject:
    """Admission has ended; another replica may take it at once, this one's successor soon."""
    reason = "the server is shutting down and takes no new request"
    return Reject(arrival.request_id, RejectCause.DRAINING, reason, _RETRY_AFTER_DRAIN_SECONDS)


def unknown_model(arrival: RequestArrived, known_models: Collection[str]) -> Reject:
    """Neither configured nor announced by a worker, ever."""
    known = ", ".join(sorted(known_models)) or "none"
    reason = f"the model {arrival.model!r} is not served here; those served: {known}"
    return Reject(arrival.request_id, RejectCause.UNKNOWN_MODEL, reason, None)


def no_worker(arrival: RequestArrived) -> Reject:
    """Every worker that served the model is gone for good."""
    reason = f"every worker that served {arrival.model!r} is gone and none will return"
    return Reject(arrival.request_id, RejectCause.NO_WORKER, reason, None)


def workers_lost(arrival: RequestArrived, returns_in_seconds: float) -> Reject:
    """No worker serves the model now, and none is expected back before the request's patience ends."""
    if returns_in_seconds == inf:
        reason = f"every worker that serves {arrival.model!r} is lost"
        return Reject(arrival.request_id, RejectCause.WORKERS_LOST, reason, None)
    reason = f"every worker that serves {arrival.model!r} is lost, the first is expected in {returns_in_seconds:.0f} s"
    return Reject(arrival.request_id, RejectCause.WORKERS_LOST, reason, max(1, ceil(returns_in_seconds)))


def deadline_passed(arrival: RequestArrived, late_seconds: float) -> Reject:
    """Nothing could start the request before its own deadline, or it came too late."""
    reason = f"the deadline passed {late_seconds:.3f} s ago and the request had not started"
    return Reject(arrival.request_id, RejectCause.DEADLINE_PASSED, reason, None)


def queue_full(
    arrival: RequestArrived, queued_requests: int, max_queued_requests: int, retry_after_seconds: int
) -> Reject:
    """`queued_requests` is without this one."""
    reason = f"requests waiting: {queued_requests}, allowed: {max_queued_requests}"
    return Reject(arrival.request_id, RejectCause.QUEUE_FULL, reason, retry_after_seconds)


def queue_timeout(
    arrival: RequestArrived, waited_seconds: float, timeout_seconds: float, retry_after_seconds: int
) -> Reject:
    """`waited_seconds` is its last stay in the queue; a retry starts another."""
    reason = f"no worker had room for {waited_seconds:.1f} s, the longest wait is {timeout_seconds:.1f} s"
    return Reject(arrival.request_id, RejectCause.QUEUE_TIMEOUT, reason, retry_after_seconds)
