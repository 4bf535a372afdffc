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


@dataclass(frozen=True, slots=True)
class _KeyValues:
    """The shape of what attention keeps of a token."""

    layers: int
    heads: int
    head_size: int

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.layers * self.heads * self.head_size * _BFLOAT16_BYTES  # keys and values


def _bfloat16(
    name: str,
    parameters: float,
    kept: _KeyValues,
    gpus: Mapping[str, int] | None = None,
    active_parameters: float | None = None,
) -> ModelSizes:
    return ModelSizes(
        name, parameters, parameters * _BFLOAT16_BYTES, kept.bytes_per_token, active_parameters, gpus or {}
    )


_ONE: Final = {"h100": 1, "b200": 1, "a100": 1}

# Only four of them were measured (`calibration.py`); 405B and 235B need more memory than some hardware classes have.
# Gemma 3 attends to 1,024 tokens in five of six layers, yet contexts here are shorter than that: all layers count.
MODELS: Final = {
    model.name: model
    for model in (
        _bfloat16("llama-3.1-8b", 8.03e9, _KeyValues(32, 8, 128), _ONE),
        _bfloat16("llama-3.1-70b", 70.55e9, _KeyValues(80, 8, 128), {"h100": 4, "b200": 2, "a100": 4}),
        _bfloat16("llama-3.1-405b", 405.85e9, _KeyValues(126, 8, 128)),
        _bfloat16("qwen3-8b", 8.19e9, _KeyValues(36, 8, 128), _ONE),
        _bfloat16("qwen3-14b", 14.77e9, _KeyValues(40, 8, 128)),
        _bfloat16("qwen3-32b", 32.76e9, _KeyValues(64, 8, 128)),
        _bfloat16("qwen3-30b-a3b", 30.53e9, _KeyValues(48, 4, 128), active_parameters=3.35e9),
        _bfloat16("qwen3-235b-a22b", 235.09e9, _KeyValues(94, 4, 128), active_parameters=22.2e9),
        _bfloat16("gemma-3-12b", 12.19e9, _KeyValues(48, 8, 256), _ONE),
        _bfloat16("gemma-3-27b", 27.43e9, _KeyValues(62, 16, 128)),
        _bfloat16("mixtral-8x7b", 46.7e9, _KeyValues(32, 8, 128), active_parameters=12.9e9),
    )
}
