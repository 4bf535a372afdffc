"""What a simulated engine did, step by step: enough to meter it afterwards, and to say what each sequence cost."""

from dataclasses import dataclass

from bench.attribution.power_model import FloatArray
from bench.attribution.workload import RequestPlan
from metering.step import EndedSequence, EngineStep


@dataclass(frozen=True, slots=True)
class BatchMembers:
    """The sequences of one step, one element each: who owns it, and what it asks of the pass.

    `requests` are indices into the trace's requests.
    """

    requests: tuple[int, ...]
    in_prefill: tuple[bool, ...]
    tokens: FloatArray
    attended_pairs: FloatArray
    context_tokens: FloatArray


@dataclass(frozen=True, slots=True)
class CutOff:
    """A request whose caller left in the middle of a step, with its sequences that had not ended.

    Those that were in the batch take part in the step to its end.
    """

    request: int
    at_seconds: float
    sequences: tuple[EndedSequence, ...]


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One step: what ran, what it took, what the engine reports of it, and who came to an end with it."""

    started_at_seconds: float
    watts: float
    members: BatchMembers
    report: EngineStep
    cut_off: tuple[CutOff, ...]
    ended: tuple[tuple[int, EndedSequence], ...]
    answered: tuple[int, ...]

    @property
    def joules(self) -> float:
        return (self.report.ended_at_seconds - self.started_at_seconds) * self.watts


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole run. `ended_at_seconds` has an instant for each request: its answer, or when its caller left."""

    requests: tuple[RequestPlan, ...]
    steps: tuple[TracedStep, ...]
    ended_at_seconds: tuple[float, ...]
    aborted: frozenset[int]
    idle_watts: float
    preemptions: int
