"""How much the scheduler may hold back, for how long, and what the workers may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from scheduler.errors import SchedulerSettingError


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """Bounds on waiting and on the workers.

    `max_queued_requests` bounds admission over all models; 0 means that nobody waits. A request that failed over from
    a broken worker was admitted before and is never refused for it, so the queue may exceed the bound by the
    requests that were running. `queue_timeout_seconds` bounds one stay in the queue. `flex_wait_seconds` is how long a
    `flex` request may be held back for a better moment, a tenth of it where nothing runs that it might join; then it is
    served like any other. `min_workers` of each model are never parked, where `min_workers_by_model` has no number
    of its own for it. `power_cap_watts` bounds what all workers together are predicted to draw; None is no bound.

    Raises:
        SchedulerSettingError: a bound makes no sense; the message names it.
    """

    max_queued_requests: int = 1024
    queue_timeout_seconds: float = 600.0
    flex_wait_seconds: float = 300.0
    min_workers: int = 1
    power_cap_watts: float | None = None
    min_workers_by_model: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_queued_requests < 0:
            message = f"max_queued_requests is {self.max_queued_requests}, expected a whole number of at least 0"
            raise SchedulerSettingError(message)
        # Written so that NaN fails too; a wait without end would never be woken for.
        if not 0 < self.queue_timeout_seconds < inf:
            message = f"queue_timeout_seconds is {self.queue_timeout_seconds}, expected finite seconds above 0"
            raise SchedulerSettingError(message)
        if not 0 <= self.flex_wait_seconds < inf:
            message = f"flex_wait_seconds is {self.flex_wait_seconds}, expected finite seconds of at least 0"
            raise SchedulerSettingError(message)
        for min_workers in (self.min_workers, *self.min_workers_by_model.values()):
            if min_workers < 0:
                message = f"min_workers is {min_workers}, expected a whole number of at least 0"
                raise SchedulerSettingError(message)
        if self.power_cap_watts is not None and not 0 < self.power_cap_watts < inf:
            message = f"power_cap_watts is {self.power_cap_watts}, expected finite watts above 0"
            raise SchedulerSettingError(message)

    def least_workers(self, model: str) -> int:
        """How many workers of the model stay awake, whatever they have to do."""
        return self.min_workers_by_model.get(model, self.min_workers)
