"""What is known of one exchange once it is over: the record that metrics and logs are made from. Never the text."""

from dataclasses import dataclass


@dataclass(slots=True)
class ExchangeRecord:
    """One request and its answer. Durations in seconds since arrival; None is unknown or does not apply."""

    request_id: str
    endpoint: str
    tenant: str
    model: str
    tier: str
    outcome: str = "failed"
    status: int = 500
    worker_id: str | None = None
    queue_seconds: float | None = None
    first_byte_seconds: float | None = None
    total_seconds: float = 0.0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    energy_joules: float | None = None
    energy_source: str | None = None
