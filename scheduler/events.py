"""What the outside world tells the scheduler.

Events are facts, already true when they are handed over; the instant at which one is handled is an argument of
`Scheduler.handle`. They carry sizes and names, never prompts or completions.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A caller wants `model`.

    `request_id` is unique among the requests now queued or running. `max_output_tokens` is None where the caller
    set no bound. `deadline_at_seconds` is the instant, on the scheduler's clock, after which starting it is useless.
    """

    request_id: str
    model: str
    tier: str = "default"
    prompt_bytes: int = 0
    max_output_tokens: int | None = None
    deadline_at_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """The worker is done with the request, well or badly; it will not be placed again."""

    request_id: str


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """Nobody waits for the request any more; the sender sees to it that a running one is aborted in the engine."""

    request_id: str


@dataclass(frozen=True, slots=True)
class DispatchFailed:
    """The worker failed before any byte reached the client: the request may run elsewhere.

    It waits at its original place in the order of arrival, and avoids the worker until that one reports ready anew.
    """

    request_id: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker serves `models`, at most `max_running_requests` of ours at a time.

    From a worker that was lost, or is new, it opens a generation that starts from no load. From one that is still
    here it replaces models and capacity, and keeps the load.
    """

    worker_id: str
    models: frozenset[str]
    max_running_requests: int


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """An engine's own count of its sequences, requests from elsewhere included. Telemetry, not our accounting."""

    worker_id: str
    running_requests: int
    waiting_requests: int


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker stopped serving. Each request it ran is reported on its own, now or later.

    `cause` is for people. `may_return` is False where nobody will start it again; requests for a model that no
    other worker serves are then refused instead of waiting in vain.
    """

    worker_id: str
    cause: str
    may_return: bool = True


@dataclass(frozen=True, slots=True)
class DrainStarted:
    """Take no new request; those already admitted are still placed and served."""


RequestEvent: TypeAlias = RequestArrived | RequestFinished | RequestCancelled | DispatchFailed
WorkerEvent: TypeAlias = WorkerReady | WorkerReported | WorkerLost
Event: TypeAlias = RequestEvent | WorkerEvent | DrainStarted
