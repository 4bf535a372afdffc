"""How a fake engine behaves: its model, its speeds and its power."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FakeSettings:
    """What one fake engine pretends to be.

    A speed of 0 means instant. `decode_tokens_per_second` holds for each sequence, however many run.
    `tokens_per_write` limits how many tokens of an instant stream leave in one write to the socket; 0 means
    as many as the transport takes, 1 imitates an engine that sends each token alone.
    """

    model: str = "fake"
    max_model_len: int = 32_768
    prefill_tokens_per_second: float = 0.0
    decode_tokens_per_second: float = 0.0
    tokens_per_write: int = 0
    startup_seconds: float = 0.0
    idle_watts: float = 10.0
    active_watts: float = 50.0
