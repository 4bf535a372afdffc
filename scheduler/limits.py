"""How much the scheduler may hold back, and for how long."""

from dataclasses import dataclass
from math import inf

from scheduler.errors import SchedulerSettingError


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Bounds on waiting.

    `max_queued_requests` bounds admission over all models; 0 means that nobody waits. A request that failed over from
    a broken worker was admitted before and is never refused for it, so the queue may exceed the bound by the
    requests that were running. `queue_timeout_seconds` bounds one stay in the queue.

    Raises:
        SchedulerSettingError: a bound is negative, or the timeout is not finite and above zero.
    """

    max_queued_requests: int = 1024
    queue_timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.max_queued_requests < 0:
            message = f"max_queued_requests is {self.max_queued_requests}, expected a whole number of at least 0"
            raise SchedulerSettingError(message)
        # Written so that NaN fails too; a wait without end would never be woken for.
        if not 0 < self.queue_timeout_seconds < inf:
            message = f"queue_timeout_seconds is {self.queue_timeout_seconds}, expected finite seconds above 0"
            raise SchedulerSettingError(message)
