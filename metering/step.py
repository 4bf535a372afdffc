"""What an engine reports: its steps, and the sequences that ended. Values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStep:
    """One forward pass over a batch.

    `duration_seconds` is the engine's own measure, or None where the engine does not say. It may be less than the step
    took: an engine that schedules the next step while one runs measures only how long it waited. `prefill_tokens` were
    computed in this step, by `prefill_sequences` (0 where the engine does not say); `decode_sequences` each advanced in
    it. `first_tokens` sequences completed their prefill with it; of their prompts, `first_token_context_tokens` in all,
    `first_token_prompt_tokens` were computed and the others found in a cache; the first of them came to the engine
    `first_token_seconds` before its end (None where the engine does not say). `inter_token_seconds` is the time since
    the step before on the engine's clock, where a sequence took part in both. `unfinished_sequences` are running or
    waiting once the step is over.

    `decode_tokens` is what the decoding sequences gave out, more than one each with speculative decoding; None is one
    each. `recomputed_tokens` were computed again for sequences that had been preempted, `preemptions` is how many times
    the engine says in this step that it preempted one. `engine` counts the data-parallel engines of one server.
    """

    ended_at_seconds: float
    duration_seconds: float | None
    prefill_tokens: int
    decode_sequences: int
    first_tokens: int
    first_token_prompt_tokens: int
    inter_token_seconds: float | None
    unfinished_sequences: int
    prefill_sequences: int = 0
    first_token_context_tokens: int = 0
    decode_tokens: int | None = None
    recomputed_tokens: int = 0
    preemptions: int = 0
    first_token_seconds: float | None = None
    engine: int = 0

    @property
    def took_seconds(self) -> float | None:
        """How long the step took, where it did not follow on another: at least as long as the engine measured.

        Sequences that get their first token in it have waited for nothing else.
        """
        known = [seconds for seconds in (self.duration_seconds, self.first_token_seconds) if seconds is not None]
        return max(known, default=None)


@dataclass(frozen=True, slots=True)
class EndedSequence:
    """One sequence of a request that produced its last token, or was cut off.

    `decode_seconds` runs from its first token to its last on the engine's clock; `prefill_done` is false for a
    sequence cut off before its first token. `computed_prompt_tokens` leaves out tokens found in a prefix cache.
    `preemptions` is how many times the engine took its place away and computed it again. `engine` is the one it ran in.
    """

    computed_prompt_tokens: int
    prompt_tokens: int
    output_tokens: int
    decode_seconds: float
    prefill_done: bool = True
    preemptions: int = 0
    engine: int = 0
