"""How much of a mixed step's energy is prefill: learned online from the steps that are not mixed."""

from typing import Final

# Half of what was learned is forgotten after about 350 steps: seconds to a minute of traffic.
_KEEP_RATIO: Final = 0.998
_MIN_STEPS: Final = 3.0


class _Line:
    """Least squares of y on x with exponential forgetting; slope and intercept never below zero."""

    __slots__ = ("count", "x", "xx", "xy", "y")

    def __init__(self) -> None:
        self.count = self.x = self.y = self.xx = self.xy = 0.0

    def learn(self, x: float, y: float) -> None:
        keep = _KEEP_RATIO
        self.count = self.count * keep + 1.0
        self.x = self.x * keep + x
        self.y = self.y * keep + y
        self.xx = self.xx * keep + x * x
        self.xy = self.xy * keep + x * y

    def predict(self, x: float) -> float:
        mean_x, mean_y = self.x / self.count, self.y / self.count
        variance = self.xx / self.count - mean_x * mean_x
        covariance = self.xy / self.count - mean_x * mean_y
        slope = max(0.0, covariance / variance) if variance > 1e-9 * (1.0 + mean_x * mean_x) else 0.0
        slope = min(slope, mean_y / mean_x) if mean_x > 0 else 0.0
        return (mean_y - slope * mean_x) + slope * x


class PhaseCostModel:
    """Splits a step's energy between its prefill tokens and its decoding sequences.

    Pure prefill steps teach the cost of n prefill tokens, pure decode steps that of n sequences; a mixed step is
    split in the proportion of the two predictions. Until both are known, in the proportion of tokens.
    """

    def __init__(self) -> None:
        self._prefill = _Line()
        self._decode = _Line()

    def learn(self, prefill_tokens: int, decode_sequences: int, energy_joules: float) -> None:
        if prefill_tokens and not decode_sequences:
            self._prefill.learn(prefill_tokens, energy_joules)
        elif decode_sequences and not prefill_tokens:
            self._decode.learn(decode_sequences, energy_joules)

    def prefill_ratio(self, prefill_tokens: int, decode_sequences: int) -> float:
        """Share of a step's energy that belongs to its prefill tokens, 0 to 1."""
        if not prefill_tokens:
            return 0.0
        if not decode_sequences:
            return 1.0
        if min(self._prefill.count, self._decode.count) < _MIN_STEPS:
            return prefill_tokens / (prefill_tokens + decode_sequences)
        prefill = self._prefill.predict(prefill_tokens)
        decode = self._decode.predict(decode_sequences)
        return prefill / (prefill + decode) if prefill + decode > 0 else 0.5
