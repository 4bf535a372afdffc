"""Engines by name, or by a model's sizes: the model that planning and the scheduler's study run on.

A model measured on a hardware class has constants of its own; any other takes those of the class. Neither is a
promise about a machine: docs/gpu-model.md has the errors against measured points.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Final

from bench.simulation.batch_correction import factors_by_sequences
from bench.simulation.calibration import CLASS_CONSTANTS, ENGINE_CALIBRATIONS
from bench.simulation.constants import FittedConstants, step_joules_of, step_seconds_of
from bench.simulation.engine_model import EngineModel
from bench.simulation.errors import SimulationSettingError
from bench.simulation.hardware import HARDWARE, Hardware
from bench.simulation.models import MODELS, ModelSizes

__all__ = ["HARDWARE", "MODELS", "calibrated", "engine_from", "engine_model", "engine_model_of_sizes", "hardware_named"]

_MEMORY_RATIO: Final = 0.9  # vLLM's default --gpu-memory-utilization
_WORKING_BYTES: Final = 4e9  # per GPU: activations, captured graphs, the CUDA context; an assumption
_LEAST_KV_RATIO: Final = 0.2  # of usable memory, when the number of GPUs is ours to choose
_GPUS: Final = (1, 2, 4, 8)  # tensor parallelism divides a model's heads, which come in powers of two
# vLLM 0.11's cold starts: 37.6 s for 1.2 GB of weights and 97.6 s for 235 GB on four A100 (vLLM's article on its sleep
# mode). On the line through both, 61 GB take 53 s where 47.4 were measured.
_START_SECONDS: Final = 37.3
_START_SECONDS_PER_BYTE: Final = 0.257e-9


@cache
def engine_model(hardware: str, model: str) -> EngineModel:
    """The engine that serves a preset model: fitted to its own points where it was measured, by its sizes elsewhere.

    Raises `SimulationSettingError` for a name that is not in `HARDWARE` or `MODELS`.
    """
    if model not in MODELS:
        raise SimulationSettingError(f"model={model!r}: expected one of {_listed(MODELS)}, or a model's sizes")
    device, sizes = hardware_named(hardware), MODELS[model]
    gpus, own = sizes.gpus.get(hardware), ENGINE_CALIBRATIONS.get((hardware, model))
    if own is None:
        return engine_from(CLASS_CONSTANTS[hardware], device, sizes, gpus=gpus)
    return calibrated(engine_from(own.constants, device, sizes, gpus=gpus), own.seconds_factors)


def engine_model_of_sizes(  # each is one of the sizes that describe a model
    hardware: str,
    parameters: float,
    weight_bytes: float,
    kv_bytes_per_token: float,
    gpus: int | None = None,
    active_parameters: float | None = None,
) -> EngineModel:
    """The engine of a model that has no preset. `gpus` is the fewest that fit unless given.

    `active_parameters` is what a token passes through in a mixture of experts. Raises `SimulationSettingError` for
    sizes that make no sense, or that the GPUs cannot hold.
    """
    device = hardware_named(hardware)
    for key, value in (
        ("parameters", parameters),
        ("weight_bytes", weight_bytes),
        ("kv_bytes_per_token", kv_bytes_per_token),
        ("active_parameters", parameters if active_parameters is None else active_parameters),
        ("gpus", 1 if gpus is None else gpus),
    ):
        if not 1 <= value < float("inf"):
            raise SimulationSettingError(f"{key}={value!r}: expected a finite number of at least 1")
    if active_parameters is not None and active_parameters > parameters:
        raise SimulationSettingError(f"active_parameters={active_parameters!r}: expected at most {parameters!r}")
    name = f"{parameters / 1e9:g}b"
    sizes = ModelSizes(name, parameters, weight_bytes, kv_bytes_per_token, active_parameters)
    return engine_from(CLASS_CONSTANTS[hardware], device, sizes, gpus=gpus)


def engine_from(constants: FittedConstants, hardware: Hardware, sizes: ModelSizes, *, gpus: int | None) -> EngineModel:
    """The engine that these constants make of a model on a GPU. Raises `SimulationSettingError` where it cannot fit."""
    count = _fewest_gpus(hardware, sizes) if gpus is None else gpus
    kv_bytes = _kv_bytes(hardware, sizes, count)
    if kv_bytes < sizes.kv_bytes_per_token:
        raise SimulationSettingError(
            f"gpus={count!r}: {sizes.name} has {sizes.weight_bytes / 1e9:.1f} GB of weights, and {count}"
            f" {hardware.name} hold {_MEMORY_RATIO * hardware.memory_bytes * count / 1e9:.1f} GB less"
            f" {_WORKING_BYTES * count / 1e9:.1f} GB to work in; expected more or larger GPUs"
        )
    active = sizes.parameters if sizes.active_parameters is None else sizes.active_parameters
    return EngineModel(
        name=sizes.name,
        hardware=hardware.name,
        gpus=count,
        idle_watts=hardware.idle_watts * count,
        parked_watts=hardware.parked_watts * count,
        limit_watts=hardware.limit_watts * constants.limit_ratio * count,
        start_seconds=_START_SECONDS + _START_SECONDS_PER_BYTE * sizes.weight_bytes,
        start_watts=hardware.start_watts * count,
        kv_capacity_tokens=int(kv_bytes / sizes.kv_bytes_per_token),
        seconds=step_seconds_of(constants, hardware, sizes, count),
        joules=step_joules_of(constants, sizes, count),
        untouched_ratio=1.0 - active / sizes.parameters,
    )


def calibrated(engine: EngineModel, seconds_factors: tuple[float, ...]) -> EngineModel:
    """The engine with what was measured of its step time beyond its constants."""
    # Without context a further sequence adds least, in proportion.
    table = factors_by_sequences(seconds_factors, lambda sequences: engine.step_seconds(sequences, 0))
    return replace(engine, measured=True, seconds_by_batch=table)


def hardware_named(name: str) -> Hardware:
    """The class of that name. Raises `SimulationSettingError` for one that is not in `HARDWARE`."""
    if name not in HARDWARE:
        raise SimulationSettingError(f"gpu={name!r}: expected one of {_listed(HARDWARE)}")
    return HARDWARE[name]


def _kv_bytes(hardware: Hardware, sizes: ModelSizes, gpus: int) -> float:
    return (_MEMORY_RATIO * hardware.memory_bytes - _WORKING_BYTES) * gpus - sizes.weight_bytes


def _fewest_gpus(hardware: Hardware, sizes: ModelSizes) -> int:
    """The fewest that leave a fifth of the memory to the KV cache: a batch, not a sequence, is what engines are for."""
    for count in _GPUS:
        if _kv_bytes(hardware, sizes, count) >= _LEAST_KV_RATIO * _MEMORY_RATIO * hardware.memory_bytes * count:
            return count
    return _GPUS[-1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
