"""Whether a worker that owes answers gets on with them: its health, judged by tokens and not by a ping.

Plain functions of the events and the time; no clock of its own, no I/O. What "hung" leads to is the caller's to know.
"""

from collections.abc import Callable
from typing import Final

from scheduler.events import WorkReport

DEFAULT_STALL_SECONDS: Final = 60.0
# Asked about once a second. After a longer gap it was us who stood still, suspended or stopped, and the silence of
# that time says nothing of the worker: what it sent meanwhile has not been read yet.
_LONGEST_UNWATCHED_SECONDS: Final = 5.0


class WorkerProgress:
    """Judges one worker over all its lives. Every method takes the present instant of one monotonic clock.

    It is hung when at least one answer has been awaited from it for `stall_seconds` without a sign of progress: a piece
    of any answer, or a change in what its engine says it has done. Silence of a worker that does not tell what it does
    proves nothing while no stream has begun, as a long answer that comes in one piece is silent too; then only a probe
    that stays unanswered for as long counts. `progress_at_seconds` is when the last byte or report told of progress.
    """

    def __init__(self, stall_seconds: float = DEFAULT_STALL_SECONDS) -> None:
        self.progress_at_seconds = 0.0
        self._stall_seconds = stall_seconds
        self._answers: set[AwaitedAnswer] = set()
        self._waits_since_seconds: float | None = None
        self._probe_answered_at_seconds = 0.0
        self._asked_at_seconds: float | None = None
        self._work: WorkReport | None = None

    @property
    def needs_probe(self) -> bool:
        """Whether `probe_answered` is the only thing that could tell for it."""
        awaited = self._awaited()
        return self._work is None and bool(awaited) and not any(answer.has_begun for answer in awaited)

    def request_sent(self, answer: "AwaitedAnswer") -> None:
        """One more answer is owed."""
        self._answers.add(answer)

    def request_over(self, answer: "AwaitedAnswer") -> None:
        """It is owed no more. No sign of progress in itself: callers give up on hung workers too."""
        self._answers.discard(answer)

    def reported(self, work: WorkReport | None, now_seconds: float) -> None:
        """It answered for its work; None where it does not tell. Energy is no progress: a hung engine draws power."""
        # Where it begins or stops to tell the rule changes, and the wait begins anew.
        if (work and _tokens(work)) != (self._work and _tokens(self._work)):
            self.progress_at_seconds = now_seconds
        self._work = work

    def probe_answered(self, now_seconds: float) -> None:
        """It answered, though it may do nothing else."""
        self._probe_answered_at_seconds = now_seconds

    def started(self, now_seconds: float) -> None:
        """A new life has begun, or a new chance was given: what went before is forgotten."""
        self._work = None
        self._waits_since_seconds = None
        self.progress_at_seconds = self._probe_answered_at_seconds = now_seconds

    def is_hung(self, now_seconds: float) -> str | None:
        """The cause, for people, or None where it is well or nobody can say. To be asked about once a second."""
        asked_at_seconds, self._asked_at_seconds = self._asked_at_seconds, now_seconds
        was_unwatched = asked_at_seconds is not None and now_seconds - asked_at_seconds > _LONGEST_UNWATCHED_SECONDS
        awaited = self._awaited()
        if not awaited:
            self._waits_since_seconds = None
            return None
        # Judged by what is awaited whenever we look: one impatient caller after the other makes one long wait.
        if self._waits_since_seconds is None or was_unwatched:
            self._waits_since_seconds = now_seconds
        since_seconds = max(self._waits_since_seconds, self.progress_at_seconds)
        if self.needs_probe:
            since_seconds = max(since_seconds, self._probe_answered_at_seconds)
        silent_seconds = now_seconds - since_seconds
        if silent_seconds < self._stall_seconds:
            return None
        return (
            f"no progress for {silent_seconds:.1f} s (limit {self._stall_seconds:g} s) while "
            f"{len(awaited)} request(s) awaited its answer: {self._describe()}"
        )

    def _awaited(self) -> list["AwaitedAnswer"]:
        return [answer for answer in self._answers if answer.is_awaited]

    def _describe(self) -> str:
        if self._work is None:
            return "nor did it answer a probe" if self.needs_probe else "it does not say what it has done"
        steps, decode_tokens, prefill_tokens = _tokens(self._work)
        return f"it stands at {steps} steps, {decode_tokens} decode tokens and {prefill_tokens} prefill tokens"


def _tokens(work: WorkReport) -> tuple[int, int, int]:
    return work.steps, work.decode_tokens, work.prefill_tokens


class AwaitedAnswer:
    """One request of ours in a worker, as `clock` passes. `end` must follow; the rest may be called in any order.

    While a piece of the answer is handed on to its caller nothing is awaited from the worker: a caller that takes
    nothing is not the worker's fault. It is in the path of every piece, so it only sets attributes.
    """

    __slots__ = ("_clock", "_progress", "has_begun", "is_awaited")

    def __init__(self, progress: WorkerProgress, clock: Callable[[], float]) -> None:
        self.is_awaited = True
        self.has_begun = False
        self._progress = progress
        self._clock = clock
        progress.request_sent(self)

    def headers_received(self, *, is_answer: bool) -> None:
        """It began to answer. That is progress where `is_answer`, a whole answer that took the engine to make.

        A refusal takes none, and the headers of a stream leave before the first token: vLLM sends them for an engine
        that hangs too, and whoever comes anew would prove it well.
        """
        if is_answer:
            self._progress.progress_at_seconds = self._clock()
        else:
            self._progress.probe_answered(self._clock())

    def piece_received(self) -> None:
        """A piece of a stream is here; until `next_awaited` nothing more is awaited."""
        self._progress.progress_at_seconds = self._clock()
        self.is_awaited = False
        self.has_begun = True

    def next_awaited(self) -> None:
        """The piece was handed on."""
        self.is_awaited = True

    def end(self) -> None:
        """Nothing is awaited any more. May be called again."""
        self.is_awaited = False
        self._progress.request_over(self)
