"""How a worker is lost, as a closed set for counting; the sentence that says what happened is for people."""

from enum import StrEnum


class WorkerLoss(StrEnum):
    """What ended a worker's life against our will."""

    HUNG = "hung"
    """It owed answers and made no progress."""
    DIED = "died"
    """Its process ended, or says itself that it can serve no more."""
    SILENT = "silent"
    """It is somebody else's server, and answers no more."""
    NOT_STARTED = "not_started"
    """It was started again and did not come up."""
