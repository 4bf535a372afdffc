"""The GPUs that engines are modelled on: what their data sheets say, and what their idle draw was measured to be.

How near an engine comes to the data sheet is fitted, and stands in `constants.py`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Hardware:
    """One GPU. Rates are the data sheet's, dense bfloat16; `idle_watts` is with a CUDA context, `parked_watts` without.

    `start_watts` is the mean while an engine starts. `assumed` names the figures that nobody measured or published.
    """

    name: str
    memory_bytes: float
    bytes_per_second: float
    flops_per_second: float
    limit_watts: float
    idle_watts: float
    parked_watts: float
    start_watts: float
    assumed: tuple[str, ...] = ()


# Rates and limits: NVIDIA's H100 data sheet, SXM column (989 teraflops dense, 3.35 TB/s, 700 W, 80 GB). Idle and
# parked: 8bitai/gpu-parking-tax (arXiv 2605.23918), as is the start: a 7B model was loaded at a mean of 90.8 W.
H100: Final = Hardware("h100", 80e9, 3.35e12, 989e12, 700.0, 121.7, 71.8, 90.8)

# Rates and limits: an eighth of NVIDIA's DGX B200 data sheet (18 petaflops dense bfloat16, 64 TB/s, 1,440 GB; up to
# 1,000 W a GPU). No source for its idle draw was found: the H100's, in proportion to the power limits.
B200: Final = Hardware(
    "b200",
    180e9,
    8e12,
    2250e12,
    1000.0,
    121.7 * 1000 / 700,
    71.8 * 1000 / 700,
    90.8 * 1000 / 700,
    assumed=("idle_watts", "parked_watts", "start_watts"),
)

# Rates and limits: NVIDIA's A100 data sheet, SXM 80 GB column (312 teraflops, 2.039 TB/s, 400 W). Idle and parked as
# for the H100, from a board of 300 W; the start in proportion to it.
A100: Final = Hardware("a100", 80e9, 2.039e12, 312e12, 400.0, 80.0, 53.7, 53.7 * 90.8 / 71.8, assumed=("start_watts",))

HARDWARE: Final = {hardware.name: hardware for hardware in (H100, B200, A100)}
