"""What can go wrong with an engine, split by whose fault it is."""


class WorkerError(Exception):
    """Base of every error this package raises on purpose."""


class EngineStartError(WorkerError):
    """An engine did not come up. `log_tail` holds its own last words, oldest first."""

    def __init__(self, message: str, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.log_tail = log_tail


class EngineUnreachableError(WorkerError):
    """An engine could not be spoken to: nothing of its answer has arrived, or its answer broke off."""
