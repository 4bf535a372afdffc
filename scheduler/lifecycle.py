"""The life of a request, as a table: state and what happened to it give the next state; a missing key is an error.

The keys are the classes of events and commands, so the table reads as the protocol. Nothing else in the package
may set a request's state. The table knows neither queues nor workers.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from scheduler.commands import Dispatch, Reject
from scheduler.errors import ProtocolError
from scheduler.events import DispatchFailed, RequestArrived, RequestCancelled, RequestFinished


class RequestState(StrEnum):
    """Where a request is; a `StrEnum`, since its members hash at the speed of `str`."""

    ABSENT = "absent"
    """Not arrived yet, or over. One state for both, so that nothing need be kept of requests that are over."""
    QUEUED = "queued"
    RUNNING = "running"


class StaleDispatchFailed:
    """A `DispatchFailed` about a worker which the request is not on: a second report, or a late one."""


_ABSENT, _QUEUED, _RUNNING = RequestState.ABSENT, RequestState.QUEUED, RequestState.RUNNING

TRANSITIONS: Final[Mapping[RequestState, Mapping[type, RequestState]]] = MappingProxyType(
    {
        _ABSENT: {
            RequestArrived: _QUEUED,
            # Two parties watch a request, the one that reads the worker and the one that reads the client. Either
            # may tell its end after the other did, or after a refusal.
            RequestFinished: _ABSENT,
            RequestCancelled: _ABSENT,
            StaleDispatchFailed: _ABSENT,
        },
        _QUEUED: {
            Dispatch: _RUNNING,
            Reject: _ABSENT,
            RequestCancelled: _ABSENT,
            # The supervisor that saw a worker die and the connection that broke report the same failure.
            StaleDispatchFailed: _QUEUED,
        },
        _RUNNING: {
            RequestFinished: _ABSENT,
            RequestCancelled: _ABSENT,
            DispatchFailed: _QUEUED,
            StaleDispatchFailed: _RUNNING,
        },
    },
)


def next_state(state: RequestState, happened: type, request_id: str) -> RequestState:
    """The state after `happened`, the class of an event or command.

    Raises:
        ProtocolError: this cannot happen to a request in `state`.
    """
    try:
        return TRANSITIONS[state][happened]
    except KeyError:
        message = f"{happened.__name__} cannot happen to request {request_id}, which is {state.value}"
        raise ProtocolError(message) from None
