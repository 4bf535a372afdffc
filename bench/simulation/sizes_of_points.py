"""The sizes of a measured model: its preset's, or what its published parameters and precision say."""

import re
from dataclasses import replace
from typing import Final

from bench.simulation.models import MODELS, ModelSizes
from bench.simulation.points_file import MeasuredPoint

# Bytes a weight, by the start of the published precision; four-bit formats carry a scale for every 16 or 32 weights.
_WEIGHT_BYTES: Final = {
    "bfloat16": 2.0,
    "bf16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "float8": 1.0,
    "mxfp4": 0.53,
    "fp4": 0.56,
    "nvfp4": 0.56,
}
_ACTIVE: Final = re.compile(r"-A(\d+(?:\.\d+)?)B", re.IGNORECASE)


def sizes_of(point: MeasuredPoint) -> ModelSizes:
    """Without a preset, the KV cache's bytes are estimated, and active parameters read off names like `30B-A3B`."""
    bytes_per_weight = next(
        (size for start, size in _WEIGHT_BYTES.items() if point.precision.lower().startswith(start)), 2.0
    )
    if point.model in MODELS:
        preset = MODELS[point.model]
        return replace(preset, weight_bytes=preset.parameters * bytes_per_weight)
    named = _ACTIVE.search(point.model)
    return ModelSizes(
        point.model,
        point.parameters,
        point.parameters * bytes_per_weight,
        _kv_bytes_per_token(point.parameters),
        None if named is None else min(float(named[1]) * 1e9, point.parameters),
    )


def _kv_bytes_per_token(parameters: float) -> float:
    """Through those of Llama 3.1 at 8e9 parameters (131,072) and at 70e9 (327,680); other models vary threefold."""
    return float(131_072 * (parameters / 8e9) ** 0.42)
