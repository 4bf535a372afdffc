"""Simulated engines: a power model and the limits of a scheduler.

Only the first is fitted to public measurements at every point; the others scale it, or fit what was measured on a CPU.
"""

from dataclasses import dataclass, replace
from typing import Final

from bench.attribution.power_model import PowerModel


@dataclass(frozen=True, slots=True)
class EnginePreset:
    """An engine to simulate. `length_ratio` scales the scenarios' token counts to what such an engine is used for.

    `batch_ratio` scales how many sequences the scenarios keep running at a time.
    """

    name: str
    power: PowerModel
    token_budget: int
    max_sequences: int
    context_capacity_tokens: int
    length_ratio: float
    batch_ratio: float


@dataclass(frozen=True, slots=True)
class ServingPoint:
    """A measured steady state: mean running sequences, mean power, median time between tokens."""

    sequences: float
    power_watts: float
    inter_token_seconds: float


# The ML.ENERGY Benchmark, leaderboard data v3 (2026-02-16): Llama-3.1-8B-Instruct, bfloat16, lm-arena-chat, vLLM, one
# H100. Cite Chung et al., NeurIPS Datasets and Benchmarks 2025. The fit assumes 350 tokens of context a sequence, as
# the mean context is not published.
H100_POINTS: Final = (
    ServingPoint(7.98, 486.4, 0.007316),
    ServingPoint(15.95, 513.3, 0.007912),
    ServingPoint(31.91, 559.7, 0.008907),
    ServingPoint(63.92, 610.3, 0.011500),
    ServingPoint(95.70, 644.0, 0.014078),
    ServingPoint(127.62, 669.2, 0.016482),
    ServingPoint(191.66, 688.3, 0.020908),
    ServingPoint(255.19, 690.5, 0.026126),
    ServingPoint(383.01, 686.5, 0.037702),
    ServingPoint(510.87, 688.3, 0.047408),
)
H100_POINTS_CONTEXT_TOKENS: Final = 350

# CPU milliseconds a token that SmolLM2-135M took in vLLM on two virtual CPUs, by the sequences that ran; a pass takes
# half of them, times the sequences.
CPU_POINTS: Final = ((1, 49.0), (2, 25.0), (4, 11.0), (16, 5.4), (32, 3.2))
CPU_POINTS_CORES: Final = 2

# Llama-3.1-8B: 8.03e9 parameters in bfloat16, 32 layers, 8 key/value heads of 128, hidden size 4096 (its model card).
# Idle with a CUDA context: 121.7 W on an H100, 80.0 W on an A100 (arXiv 2605.23918); limits from NVIDIA's data sheets.
H100_8B: Final = EnginePreset(
    name="h100-8b",
    power=PowerModel(
        weight_bytes=16.06e9,
        context_bytes_per_token=131_072,
        flops_per_token=16.06e9,
        flops_per_attended_pair=4 * 32 * 4096,
        memory_bytes_per_second=2.57e12,
        flops_per_second=6.7e14,
        attention_flops_ratio=0.6,
        launch_seconds=0.63e-3,
        sequence_seconds=48.9e-6,
        idle_watts=121.7,
        max_watts=700,
        memory_weight=0.74,
        compute_weight=11.6,
    ),
    token_budget=2048,
    max_sequences=256,
    context_capacity_tokens=400_000,
    length_ratio=1.0,
    batch_ratio=1.0,
)

# The H100's fit at an A100 SXM 80 GB's data-sheet bandwidth, arithmetic and power limit: a shape, not a measurement.
A100_8B: Final = replace(
    H100_8B,
    name="a100-8b",
    power=replace(
        H100_8B.power, memory_bytes_per_second=1.56e12, flops_per_second=2.11e14, idle_watts=80, max_watts=400
    ),
)

# SmolLM2-135M: 30 layers, 3 key/value heads of 64, hidden size 576. Watts as the `estimate` source has them for two
# virtual CPUs (metering/sources/estimate.py).
CPU_135M: Final = EnginePreset(
    name="cpu-135m",
    power=PowerModel(
        weight_bytes=269e6,
        context_bytes_per_token=23_040,
        flops_per_token=269e6,
        flops_per_attended_pair=4 * 30 * 576,
        memory_bytes_per_second=20e9,
        flops_per_second=5.5e11,
        attention_flops_ratio=0.6,
        launch_seconds=8e-3,
        sequence_seconds=0.5e-3,
        idle_watts=1.48,
        max_watts=7.0,
        memory_weight=2.0,
        compute_weight=4.0,
    ),
    token_budget=256,
    max_sequences=64,
    context_capacity_tokens=40_000,
    length_ratio=0.2,
    batch_ratio=0.5,
)

PRESETS: Final = {preset.name: preset for preset in (H100_8B, A100_8B, CPU_135M)}
