"""What is believed of an engine before it has told anything of itself: one prior for each class of hardware.

Nothing here is promised to be right. The shapes (how a step's duration and power grow with the batch) are worth having
from the first request on; the scale is replaced by what the engine reports within seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class HardwareClass:
    """Priors of one engine that serves a model of about 8 billion parameters on this hardware (0.1 on a CPU).

    A step over `batch` sequences takes `step_base_seconds + batch * step_sequence_seconds`. Power rises with the
    logarithm of the batch from `one_watts` at 1 to `full_watts` at 256. `parked_watts` is what the hardware draws with
    no process on it, `start_joules` what a start costs beyond that.
    """

    name: str
    step_base_seconds: float
    step_sequence_seconds: float
    prefill_token_seconds: float
    parked_watts: float
    idle_watts: float
    one_watts: float
    full_watts: float
    start_seconds: float
    start_joules: float

    def step_seconds(self, batch: float) -> float:
        return self.step_base_seconds + batch * self.step_sequence_seconds

    def watts(self, batch: float) -> float:
        return self.one_watts + (self.full_watts - self.one_watts) * min(1.0, log2(max(1.0, batch)) / 8)


# H100 and B200: two points each of the ML.ENERGY Benchmark, leaderboard data v3 (Chung et al., NeurIPS Datasets and
# Benchmarks 2025), Llama-3.1-8B. Idle and bare: arXiv 2605.23918 (H100 121.7 and 71.8 W, A100 80.0 and 53.7 W). Start:
# a 7B model took 29.7 s at 19 W above bare there, and vLLM 37 to 58 s cold (its post on sleep mode). An H200, which
# counts as an H100, measured 78.5 W bare and 123 W idle, 454 W at 1 and 691 W at 256 (docs/gpu-measurements.md). B200's
# idle power is not published: the H100's, scaled by their limits of 1,000 and 700 W. A100: the H100's steps at its
# bandwidth. CPU: SmolLM2-135M in vLLM on one virtual core, watts as the meter's estimate has them. Unknown: between
# A100 and H100.
_H100 = HardwareClass("h100", 6.8e-3, 75e-6, 30e-6, 71.8, 121.7, 420, 690, 45, 1000)
_B200 = HardwareClass("b200", 4.5e-3, 60e-6, 15e-6, 103, 174, 560, 830, 45, 1400)
_A100 = HardwareClass("a100", 11e-3, 120e-6, 80e-6, 53.7, 80.0, 230, 390, 50, 700)
_CPU = HardwareClass("cpu", 45e-3, 2.5e-3, 2e-3, 0.0, 0.8, 3.0, 3.5, 20, 60)
_UNKNOWN = HardwareClass("unknown", 10e-3, 100e-6, 60e-6, 60.0, 100.0, 300, 500, 45, 1000)

HARDWARE: Final[Mapping[str, HardwareClass]] = MappingProxyType(
    {prior.name: prior for prior in (_H100, _B200, _A100, _CPU, _UNKNOWN)}
)
"""Every class by its name."""


def hardware_class(name: str) -> HardwareClass:
    """The class of that name; hardware nobody has described is `unknown`."""
    return HARDWARE.get(name, _UNKNOWN)
