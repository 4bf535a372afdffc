"""What an engine has done since it started, in steps, seconds and tokens; independent of whether energy is measured.

Called in the engine's step path: a few additions for each step. Knows nothing of joules.
"""

from typing import Any

from metering.step import EngineStep


class EngineWork:
    """Totals over the data-parallel engines of one server; they never fall.

    A step is counted with the engine's own measure of it, or the time since the step before where a sequence took part
    in both, whichever is longer: an engine that schedules the next step while one runs, as vLLM does on GPUs, measures
    only how long it waited (on an H200 a quarter to a half of the step). A step of which neither is known is left out
    altogether, tokens and all, so that tokens and seconds stay in proportion.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._step_seconds = 0.0
        self._decode_tokens = 0
        self._prefill_tokens = 0
        self._kv_cache_usage_ratios: dict[int, float] = {}
        self._loading_seconds: float | None = None

    def step(self, step: EngineStep) -> None:
        """Count one forward pass: a token for each decoding sequence, however many drafts were accepted."""
        known = [seconds for seconds in (step.duration_seconds, step.inter_token_seconds) if seconds is not None]
        if not known:
            return
        self._steps += 1
        self._step_seconds += max(known)
        self._decode_tokens += step.decode_sequences
        self._prefill_tokens += step.prefill_tokens

    def kv_cache_usage(self, engine: int, ratio: float) -> None:
        """Note how much of one engine's KV cache is taken now."""
        self._kv_cache_usage_ratios[engine] = ratio

    def loaded(self, loading_seconds: float) -> None:
        """Note how long the engine was seen to load."""
        self._loading_seconds = loading_seconds

    def report(self) -> dict[str, Any]:
        """The `work` of `GET /energy`. The KV caches of data-parallel engines are of one size: theirs is the mean."""
        ratios = self._kv_cache_usage_ratios.values()
        return {
            "steps_total": self._steps,
            "step_seconds_total": round(self._step_seconds, 6),
            "decode_tokens_total": self._decode_tokens,
            "prefill_tokens_total": self._prefill_tokens,
            "loading_seconds": None if self._loading_seconds is None else round(self._loading_seconds, 6),
            "kv_cache_usage_ratio": round(sum(ratios) / len(ratios), 6) if ratios else None,
        }
