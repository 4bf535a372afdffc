"""What an engine reports: its steps, and the sequences that ended. Values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStep:
    """One forward pass over a batch.

    `duration_seconds` is the engine's own measure, or None where the engine does not say. `prefill_tokens` were
    computed in this step; `decode_sequences` each advanced in it. `first_tokens` sequences completed their prefill
    with it, and computed `first_token_prompt_tokens` prompt tokens in all (cached ones left out).
    `inter_token_seconds` is the time since the step before on the engine's clock, where a sequence took part in
    both. `unfinished_sequences` are running or waiting once the step is over.
    """

    ended_at_seconds: float
    duration_seconds: float | None
    prefill_tokens: int
    decode_sequences: int
    first_tokens: int
    first_token_prompt_tokens: int
    inter_token_seconds: float | None
    unfinished_sequences: int


@dataclass(frozen=True, slots=True)
class EndedSequence:
    """One sequence of a request that produced its last token, or was cut off.

    `decode_seconds` runs from its first token to its last on the engine's clock; `prefill_done` is false for a
    sequence cut off before its first token. `computed_prompt_tokens` leaves out tokens found in a prefix cache.
    """

    computed_prompt_tokens: int
    prompt_tokens: int
    output_tokens: int
    decode_seconds: float
    prefill_done: bool = True
