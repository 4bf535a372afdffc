"""What a scheduler's refusal means in HTTP."""

from collections.abc import Mapping
from typing import Final

from scheduler.commands import Reject, RejectCause
from server.api_error import ApiError

_ANSWERS: Final[Mapping[RejectCause, tuple[int, str]]] = {
    RejectCause.QUEUE_FULL: (429, "queue_full"),
    RejectCause.QUEUE_TIMEOUT: (503, "queue_timeout"),
    RejectCause.DEADLINE_PASSED: (408, "deadline_passed"),
    RejectCause.UNKNOWN_MODEL: (404, "model_not_found"),
    RejectCause.NO_WORKER: (503, "no_worker"),
    RejectCause.WORKERS_LOST: (503, "no_worker"),
    RejectCause.DRAINING: (503, "draining"),
}
# For refusals of which the scheduler cannot say when they end: a restart takes about this long.
_RETRY_SECONDS: Final = 10


def api_error(reject: Reject) -> ApiError:
    """The answer to a refused request; overload and shutdown say when to come back."""
    status, code = _ANSWERS[reject.cause]
    param = "model" if reject.cause is RejectCause.UNKNOWN_MODEL else None
    headers = {}
    if reject.cause is RejectCause.DEADLINE_PASSED:
        headers["x-should-retry"] = "false"  # OpenAI's clients repeat a 408 by themselves, and it would be later still
    if status in {429, 503}:
        headers["Retry-After"] = str(reject.retry_after_seconds or _RETRY_SECONDS)
    return ApiError(status, reject.reason, code, param, headers)
