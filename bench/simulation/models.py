"""The models that engines serve, by their sizes: from their model cards and configuration files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_BFLOAT16_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """All that is asked of a model. `active_parameters` are those a token passes through: fewer than all in a mixture.

    `gpus` says how many an engine takes on a hardware class; where it does not, the fewest that fit.
    """

    name: str
    parameters: float
    weight_bytes: float
    kv_bytes_per_token: float
    active_parameters: float | None = None
    gpus: Mapping[str, int] = field(default_factory=dict)


def _dense(
    name: str, parameters: float, layers: int, kv_heads: int, head_size: int, gpus: Mapping[str, int]
) -> ModelSizes:
    kv_bytes = 2 * layers * kv_heads * head_size * _BFLOAT16_BYTES  # keys and values
    return ModelSizes(name, parameters, parameters * _BFLOAT16_BYTES, kv_bytes, gpus=gpus)


_ONE: Final = {"h100": 1, "b200": 1, "a100": 1}

# Gemma 3 attends to 1,024 tokens in five of six layers, yet contexts here are shorter than that: all layers count.
MODELS: Final = {
    model.name: model
    for model in (
        _dense("llama-3.1-8b", 8.03e9, layers=32, kv_heads=8, head_size=128, gpus=_ONE),
        _dense("llama-3.1-70b", 70.55e9, layers=80, kv_heads=8, head_size=128, gpus={"h100": 4, "b200": 2, "a100": 4}),
        _dense("qwen3-8b", 8.19e9, layers=36, kv_heads=8, head_size=128, gpus=_ONE),
        _dense("gemma-3-12b", 12.19e9, layers=48, kv_heads=8, head_size=256, gpus=_ONE),
    )
}
