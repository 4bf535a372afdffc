"""The scheduler's latest decisions and why they were made, for people.

Neither request ids nor anything a caller wrote is kept: whoever may read this need not be the caller.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from scheduler.commands import Command, Dispatch, Notice, Park, Reject, RejectCause

_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Decision:
    """One command. `worker_id` is None for a refusal, whose `command` is followed by its cause: `reject:queue_full`."""

    at_unix_seconds: float
    command: str
    worker_id: str | None
    reason: str


class DecisionLog:
    """Keeps the last hundred commands to workers and notices, and as many refusals: a flood of one hides no other.

    Dispatches are only counted, by their reason. `unix_clock` gives wall time.
    """

    def __init__(self, unix_clock: Callable[[], float]) -> None:
        self._unix_clock = unix_clock
        self._decisions: deque[Decision] = deque(maxlen=_KEPT)
        self._refusals: deque[Decision] = deque(maxlen=_KEPT)
        self._dispatches: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()

    def take(self, command: Command) -> None:
        """Take in a command."""
        match command:
            case Dispatch():
                self._dispatches[command.reason] += 1
            case Reject():
                self._rejects[command.cause.value] += 1
                # The sentence about an unknown model repeats what the caller wrote.
                is_quoting = command.cause is RejectCause.UNKNOWN_MODEL
                reason = "the model is not served here" if is_quoting else command.reason
                self._refusals.append(Decision(self._unix_clock(), f"reject:{command.cause.value}", None, reason))
            case Notice():
                self._keep(f"notice:{command.code}", command.worker_id, command.reason)
            case _:
                name = "park" if isinstance(command, Park) else "start"
                self._keep(name, command.worker_id, command.reason)

    def decisions(self) -> list[Decision]:
        """Commands to workers and notices, the latest first."""
        return list(reversed(self._decisions))

    def refusals(self) -> list[Decision]:
        """Refused requests, the latest first."""
        return list(reversed(self._refusals))

    def dispatches_by_reason(self) -> dict[str, int]:
        return dict(self._dispatches)

    def refusals_by_cause(self) -> dict[str, int]:
        return dict(self._rejects)

    def _keep(self, command: str, worker_id: str, reason: str) -> None:
        self._decisions.append(Decision(self._unix_clock(), command, worker_id, reason))
