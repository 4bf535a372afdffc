"""What can go wrong around a decision, split by whose fault it is."""

from scheduler.commands import Reject


class SchedulerError(Exception):
    """Base of every error this package raises on purpose."""


class RejectedError(SchedulerError):
    """The scheduler refused a request; `reject` says why and when to come back. The caller's to answer."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(f"{reject.cause.value}: {reject.reason}")
        self.reject = reject


class RequestGoneError(SchedulerError):
    """The request was cancelled or finished by someone else while its placement was awaited."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request {request_id} was cancelled or finished before it could be placed")
        self.request_id = request_id


class ProtocolError(SchedulerError):
    """An event that cannot follow the request's state: a bug in the code that feeds the scheduler.

    It is raised before anything changed, so the scheduler stays usable.
    """


class PolicyError(SchedulerError):
    """A placement policy chose a worker that was not offered to it: a bug in the policy."""


class SchedulerSettingError(SchedulerError):
    """The operator set a limit that makes no sense; the message names key, value and what was expected."""
