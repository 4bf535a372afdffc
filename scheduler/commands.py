"""What the scheduler tells the outside world to do.

Every command says why it was given. What a refusal means in HTTP is the server's to know, how a process is stopped the
worker's.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Send the request to the worker now; its place there is counted until the request is reported gone.

    `reason` is one of a few short labels, fit for a metric.
    """

    request_id: str
    worker_id: str
    reason: str


class RejectCause(Enum):
    """Why a request is refused."""

    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DEADLINE_PASSED = "deadline_passed"
    UNKNOWN_MODEL = "unknown_model"
    NO_WORKER = "no_worker"
    """Every worker that served the model is gone for good."""
    WORKERS_LOST = "workers_lost"
    """Every worker that serves the model is lost and nobody can say when one returns."""
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer the caller with a refusal; the scheduler has forgotten the request.

    `reason` is a sentence for people, with its numbers and units. `retry_after_seconds` is at least 1, or None where
    coming back would not help or nobody can say when it would.
    """

    request_id: str
    cause: RejectCause
    reason: str
    retry_after_seconds: int | None


@dataclass(frozen=True, slots=True)
class Park:
    """Stop the worker's process; it runs none of our requests and gets none until it is ready anew.

    `reason` is a sentence for people, with its numbers and units.
    """

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start a parked worker's process; `WorkerReady` or `WorkerLost` is to follow. `reason` as in `Park`."""

    worker_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell the operator; nothing is to be done. Given once for each thing that is worth telling.

    `code` is a short label, `reason` a sentence for people.
    """

    worker_id: str
    code: str
    reason: str


RequestCommand: TypeAlias = Dispatch | Reject
WorkerCommand: TypeAlias = Park | Start
Command: TypeAlias = RequestCommand | WorkerCommand | Notice
