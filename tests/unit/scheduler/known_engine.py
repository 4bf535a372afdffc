"""An engine whose costs are known, and which tells its totals as a real one does."""

from dataclasses import dataclass

from scheduler.events import WorkReport


@dataclass
class KnownEngine:
    """Every second it computes so many prompt tokens and spends the rest of its busy time on decoding."""

    base_seconds: float = 0.020
    sequence_seconds: float = 0.0004
    prefill_token_seconds: float = 100e-6
    idle_watts: float = 90.0
    busy_watts: float = 300.0
    sequence_watts: float = 1.5
    loading_joules: float | None = None

    def __post_init__(self) -> None:
        self.totals = WorkReport(0, 0.0, 0, 0, 0.0, self.loading_joules)

    def step_seconds(self, batch: float) -> float:
        return self.base_seconds + batch * self.sequence_seconds

    def watts(self, batch: float) -> float:
        return self.busy_watts + batch * self.sequence_watts

    def work(
        self, seconds: float, batch: int, *, prefill_tokens: int = 0, busy_ratio: float = 1.0, noise_ratio: float = 1.0
    ) -> WorkReport:
        """Its totals after `seconds` more; `noise_ratio` is how much slower it was than it usually is."""
        prefill_seconds = prefill_tokens * self.prefill_token_seconds
        busy_seconds = seconds * busy_ratio if batch else 0.0
        steps = round(max(0.0, busy_seconds / noise_ratio - prefill_seconds) / self.step_seconds(batch)) if batch else 0
        step_seconds = (steps * self.step_seconds(batch) + prefill_seconds) * noise_ratio
        joules = step_seconds * self.watts(batch) + (seconds - step_seconds) * self.idle_watts
        last = self.totals
        self.totals = WorkReport(
            steps=last.steps + steps,
            step_seconds=last.step_seconds + step_seconds,
            decode_tokens=last.decode_tokens + steps * batch,
            prefill_tokens=last.prefill_tokens + prefill_tokens,
            energy_joules=(last.energy_joules or 0.0) + joules,
            loading_joules=self.loading_joules,
        )
        return self.totals
