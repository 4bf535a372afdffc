"""What the fake engine has done, in the shape in which a real one tells it.

It has no batches: its sequences advance side by side, each at the same speed. Seen together that is an engine whose
step takes one over that speed and advances every decoding sequence, and so it is counted. O(1) for each change.
"""

from collections.abc import Callable
from typing import Any


class EngineWork:
    """Totals since the start. A prompt is one step, computed in the time its prefill takes.

    At a decode speed of 0, which is instant, nothing runs side by side and each token of a generation is a step.
    """

    def __init__(self, clock_nanoseconds: Callable[[], int], decode_tokens_per_second: float) -> None:
        self._clock_nanoseconds = clock_nanoseconds
        self._decode_tokens_per_second = decode_tokens_per_second
        self._settled_at_nanoseconds = clock_nanoseconds()
        self._prefilling = 0
        self._decoding = 0
        self._busy_nanoseconds = 0
        self._decoding_nanoseconds = 0
        self._other_steps = 0
        self._prefill_tokens = 0
        self._decode_tokens = 0

    def begin_prefill(self) -> None:
        self._settle()
        self._prefilling += 1

    def end_prefill(self, computed_tokens: int | None) -> None:
        """None for a prompt that was given up."""
        self._settle()
        self._prefilling -= 1
        if computed_tokens is not None:
            self._other_steps += 1
            self._prefill_tokens += computed_tokens

    def begin_decode(self) -> None:
        """A generation advances from now on."""
        self._settle()
        self._decoding += 1

    def end_decode(self) -> None:
        """A generation has ended, or waits for its reader."""
        self._settle()
        self._decoding -= 1

    def decoded(self, sequences: int, tokens: int) -> None:
        """A generation that has ended had made `tokens` of each of its sequences, the first with its prefill."""
        self._decode_tokens += decode_tokens(sequences, tokens)
        if not self._decode_tokens_per_second:
            self._other_steps += max(0, tokens - 1)

    def report(self, running_decode_tokens: int) -> dict[str, Any]:
        """The `work` of `GET /energy`. It has no KV cache to speak of."""
        self._settle()
        decode_steps = int(self._decoding_nanoseconds / 1e9 * self._decode_tokens_per_second)
        return {
            "steps_total": self._other_steps + decode_steps,
            "step_seconds_total": round(self._busy_nanoseconds / 1e9, 6),
            "decode_tokens_total": self._decode_tokens + running_decode_tokens,
            "prefill_tokens_total": self._prefill_tokens,
            "loading_seconds": None,
            "kv_cache_usage_ratio": None,
        }

    def _settle(self) -> None:
        now = self._clock_nanoseconds()
        passed = now - self._settled_at_nanoseconds
        self._settled_at_nanoseconds = now
        if self._decoding:
            self._decoding_nanoseconds += passed
        if self._decoding or self._prefilling:
            self._busy_nanoseconds += passed


def decode_tokens(sequences: int, tokens: int) -> int:
    """How many tokens of a generation came from decode steps."""
    return sequences * max(0, tokens - 1)
