"""The fitted constants, as `python -m bench.simulation.fit --data FILE` prints them.

Fitted to the ML.ENERGY Benchmark, leaderboard data v3 (2026-02-16): vLLM in steady state on the chat workload
lm-arena-chat, weights in bfloat16, on H100 and B200. Cite Chung et al., NeurIPS Datasets and Benchmarks 2025. Constants
that one GPU's points cannot show (`parallel_…` where an engine has one) are those expected.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bench.simulation.constants import EngineCalibration, FittedConstants
from bench.simulation.hardware import A100, H100

_CLASSES: Final[Mapping[str, FittedConstants]] = {
    "b200": FittedConstants(
        bandwidth_ratio=0.7673,
        kv_bandwidth_ratio=0.8499,
        flops_ratio=0.7828,
        launch_seconds=0.0006109,
        layer_seconds=0.0001361,
        sequence_seconds=6.735e-05,
        parallel_layer_seconds=1.904e-05,
        parallel_token_seconds=4.535e-06,
        busy_watts=41.48,
        joules_per_weight_byte=1.278e-10,
        joules_per_kv_byte=1.298e-10,
        joules_per_flop=1.028e-12,
        joules_per_sequence=0.00249,
        limit_ratio=0.98,
    ),
    "h100": FittedConstants(
        bandwidth_ratio=0.6743,
        kv_bandwidth_ratio=0.5937,
        flops_ratio=0.5957,
        launch_seconds=0.0006117,
        layer_seconds=7.237e-05,
        sequence_seconds=5.878e-05,
        parallel_layer_seconds=3.061e-05,
        parallel_token_seconds=1.275e-05,
        busy_watts=64.41,
        joules_per_weight_byte=1.004e-10,
        joules_per_kv_byte=1.151e-10,
        joules_per_flop=1.083e-12,
        joules_per_sequence=0.02147,
        limit_ratio=0.9866,
    ),
}

ENGINE_CALIBRATIONS: Final[Mapping[tuple[str, str], EngineCalibration]] = {
    ("b200", "qwen3-8b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=0.8151,
            kv_bandwidth_ratio=0.8511,
            flops_ratio=0.7437,
            launch_seconds=0.0006133,
            layer_seconds=0.00014,
            sequence_seconds=5.877e-05,
            parallel_layer_seconds=1.904e-05,
            parallel_token_seconds=4.535e-06,
            busy_watts=41.08,
            joules_per_weight_byte=1.175e-10,
            joules_per_kv_byte=1.379e-10,
            joules_per_flop=1.091e-12,
            joules_per_sequence=0.002508,
            limit_ratio=0.9786,
        ),
        seconds_factors=(0.8472, 1.006, 1.371, 1.342, 0.9737, 0.9646, 0.9879, 1.074, 0.8858),
    ),
    ("b200", "gemma-3-12b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=0.6923,
            kv_bandwidth_ratio=0.9574,
            flops_ratio=0.8096,
            launch_seconds=0.000618,
            layer_seconds=0.0001514,
            sequence_seconds=6.824e-05,
            parallel_layer_seconds=1.904e-05,
            parallel_token_seconds=4.535e-06,
            busy_watts=41.38,
            joules_per_weight_byte=1.231e-10,
            joules_per_kv_byte=1.308e-10,
            joules_per_flop=1.035e-12,
            joules_per_sequence=0.002491,
            limit_ratio=0.9838,
        ),
        seconds_factors=(0.9425, 0.9792, 1.12, 1.056, 1.056, 0.9921, 0.9402, 0.9669, 0.9778),
    ),
    ("b200", "llama-3.1-70b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=1.142,
            kv_bandwidth_ratio=0.9986,
            flops_ratio=0.9506,
            launch_seconds=0.0006172,
            layer_seconds=0.0001683,
            sequence_seconds=6.75e-05,
            parallel_layer_seconds=1.952e-05,
            parallel_token_seconds=4.114e-06,
            busy_watts=41.87,
            joules_per_weight_byte=1.391e-10,
            joules_per_kv_byte=1.311e-10,
            joules_per_flop=1.134e-12,
            joules_per_sequence=0.002493,
            limit_ratio=0.98,
        ),
        seconds_factors=(0.9517, 0.9553, 1.003, 1.053, 1.084, 1.075, 1.065, 1.012, 0.8367),
    ),
    ("b200", "llama-3.1-8b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=1.12,
            kv_bandwidth_ratio=0.8576,
            flops_ratio=0.7744,
            launch_seconds=0.0005742,
            layer_seconds=9.72e-05,
            sequence_seconds=8.652e-05,
            parallel_layer_seconds=1.904e-05,
            parallel_token_seconds=4.535e-06,
            busy_watts=40.46,
            joules_per_weight_byte=1.185e-10,
            joules_per_kv_byte=1.255e-10,
            joules_per_flop=9.364e-13,
            joules_per_sequence=0.002466,
            limit_ratio=0.98,
        ),
        seconds_factors=(0.9875, 0.996, 1.054, 1.081, 1.613, 1.207, 1.027, 0.9153, 0.7131),
    ),
    ("h100", "qwen3-8b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=0.6931,
            kv_bandwidth_ratio=0.5207,
            flops_ratio=0.7042,
            launch_seconds=0.0006368,
            layer_seconds=8.63e-05,
            sequence_seconds=5.804e-05,
            parallel_layer_seconds=3.061e-05,
            parallel_token_seconds=1.275e-05,
            busy_watts=61.77,
            joules_per_weight_byte=9.714e-11,
            joules_per_kv_byte=1.09e-10,
            joules_per_flop=9.763e-13,
            joules_per_sequence=0.01955,
            limit_ratio=0.9863,
        ),
        seconds_factors=(0.9668, 0.9752, 1.003, 1.05, 1.064, 0.9856, 0.9269, 0.9594, 0.9728),
    ),
    ("h100", "gemma-3-12b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=0.6426,
            kv_bandwidth_ratio=0.6262,
            flops_ratio=0.5987,
            launch_seconds=0.0006124,
            layer_seconds=7.271e-05,
            sequence_seconds=5.837e-05,
            parallel_layer_seconds=3.061e-05,
            parallel_token_seconds=1.275e-05,
            busy_watts=64.73,
            joules_per_weight_byte=9.608e-11,
            joules_per_kv_byte=1.212e-10,
            joules_per_flop=1.129e-12,
            joules_per_sequence=0.02205,
            limit_ratio=0.9878,
        ),
        seconds_factors=(0.9954, 1.001, 1.009, 1, 0.9978, 0.9989, 0.9994, 0.9997, 0.9998),
    ),
    ("h100", "llama-3.1-70b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=0.8144,
            kv_bandwidth_ratio=0.6241,
            flops_ratio=0.6728,
            launch_seconds=0.000631,
            layer_seconds=0.0001091,
            sequence_seconds=7.098e-05,
            parallel_layer_seconds=3.491e-05,
            parallel_token_seconds=1.147e-05,
            busy_watts=66.51,
            joules_per_weight_byte=1.038e-10,
            joules_per_kv_byte=1.145e-10,
            joules_per_flop=1.042e-12,
            joules_per_sequence=0.02138,
            limit_ratio=0.989,
        ),
        seconds_factors=(0.9362, 0.9697, 1.025, 1.034, 1.031, 1.026, 1.013, 0.9154, 0.9428),
    ),
    ("h100", "llama-3.1-8b"): EngineCalibration(
        FittedConstants(
            bandwidth_ratio=0.787,
            kv_bandwidth_ratio=0.5541,
            flops_ratio=0.6587,
            launch_seconds=0.0006373,
            layer_seconds=8.645e-05,
            sequence_seconds=5.713e-05,
            parallel_layer_seconds=3.061e-05,
            parallel_token_seconds=1.275e-05,
            busy_watts=67.27,
            joules_per_weight_byte=1.055e-10,
            joules_per_kv_byte=1.193e-10,
            joules_per_flop=1.211e-12,
            joules_per_sequence=0.02355,
            limit_ratio=1,
        ),
        seconds_factors=(0.9828, 0.9918, 0.9931, 1.024, 1.027, 0.9908, 0.9812, 0.9916, 0.9944),
    ),
}


def _a100() -> FittedConstants:
    """Not measured: the H100's ratios to the data sheet, and the joules of arithmetic that its power limit implies.

    An A100 has 1.76 times the watts above idle for each flop per second. Bytes are taken to cost the same joules, as
    both have stacked memory, and `busy_watts` to go with the power limit.
    """
    h100 = _CLASSES["h100"]
    flop_watts = [(gpu.limit_watts - gpu.idle_watts) / gpu.flops_per_second for gpu in (A100, H100)]
    return replace(
        h100,
        joules_per_flop=h100.joules_per_flop * flop_watts[0] / flop_watts[1],
        busy_watts=h100.busy_watts * A100.limit_watts / H100.limit_watts,
    )


CLASS_CONSTANTS: Final[Mapping[str, FittedConstants]] = {**_CLASSES, "a100": _a100()}
