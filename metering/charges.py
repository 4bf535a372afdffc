"""What requests owe while they run, and what they came to. Plain values that the meter fills in."""

from dataclasses import dataclass, field

from metering.step import EndedSequence


@dataclass(slots=True)
class Charges:
    """What a request owes so far, per component index, and the tokens it paid for."""

    prefill: list[int]
    decode: list[int]
    prompt_tokens: int = 0
    output_tokens: int = 0
    sequences: int = 0
    engines: set[int] = field(default_factory=set)
    is_whole: bool = True  # the step of every first token was still remembered

    def add(self, other: "Charges") -> None:
        self.prefill = [a + b for a, b in zip(self.prefill, other.prefill, strict=True)]
        self.decode = [a + b for a, b in zip(self.decode, other.decode, strict=True)]
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        self.sequences += other.sequences
        self.engines |= other.engines
        self.is_whole = self.is_whole and other.is_whole


@dataclass(slots=True)
class OpenRequest:
    """A request in flight, or cut off and still to be charged. Rows are those of its engines' books."""

    started_at_seconds: float
    assigned_at_start: int
    first_rows: tuple[int, ...]  # of each engine, the latest when the request came
    lost_at_start_seconds: tuple[float, ...]  # to resets, of each counter
    charges: Charges
    cut_off: list[tuple[int, EndedSequence]] = field(default_factory=list)  # with the row of its first token
    aborted_at_seconds: float = 0.0
    unseen_steps: set[int] = field(default_factory=set)  # engines of a request cut off whose running step is not booked
    is_answered: bool = False  # its answer has told of all but sequences that were cut off before their first token

    def strike_off(self, first_row: int, ended: EndedSequence) -> None:
        """A sequence noted as cut off ended by itself before the engine heard of the abort: it is charged already."""
        alike = [
            one for one in self.cut_off if one[1].prompt_tokens == ended.prompt_tokens and one[1].engine == ended.engine
        ]
        if alike:
            self.cut_off.remove(min(alike, key=lambda one: abs(one[0] - first_row)))


@dataclass(slots=True)
class RequestTotals:
    """How many requests ended, how, and what they were charged."""

    completed: int = 0
    aborted: int = 0
    completed_microjoules: int = 0
    aborted_microjoules: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
