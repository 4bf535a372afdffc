"""What a placement policy is: where a request goes among the workers that have room for it.

A policy sees only what it is given: the request, the pool, the time. It keeps no count of its own of what runs where,
reads no clock, and knows neither queues nor events. It reads requests and workers and changes neither.
"""

from dataclasses import dataclass
from typing import Protocol

from scheduler.pool import Pool
from scheduler.request import Request


@dataclass(frozen=True, slots=True)
class Placement:
    """A policy's choice; `reason` is one of a few short labels, fit for a metric."""

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The request, and all behind it that want the same model, wait for a better moment; `reason` as in `Placement`."""

    reason: str


class PlacementPolicy(Protocol):
    """Chooses a worker for one request."""

    parks_workers: bool
    """Whether workers that it leaves idle may be stopped."""

    def choose(self, request: Request, pool: Pool, now_seconds: float, /) -> Placement | Hold:
        """A worker of `pool` that the request may use, or `Hold`.

        The pool holds at least one such worker. The same calls in the same order give the same answers. Only a request
        that `may_wait` is held. It is offered again when something changed and at the scheduler's next wake-up.
        """
        ...
