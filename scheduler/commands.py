"""What the scheduler tells the outside world to do.

Every command names the request it answers and says why it was given. What a refusal means in HTTP is the server's
to know.
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


Command: TypeAlias = Dispatch | Reject
