"""What makes an engine of hardware and sizes: the constants that are fitted, and the formulas that they stand in."""

import math
from dataclasses import dataclass

from bench.simulation.engine_model import StepJoules, StepSeconds
from bench.simulation.hardware import Hardware
from bench.simulation.models import ModelSizes


@dataclass(frozen=True, slots=True)
class FittedConstants:
    """How near engines come to a GPU's data sheet, what else a step takes, and what joules its parts cost.

    Of one hardware class, fitted over all models measured on it, or of one model on it. `layer_` figures are per layer,
    `parallel_` ones count only with several GPUs; `parallel_token_seconds` is for a model of 70e9 parameters.
    `busy_watts` is per GPU.
    """

    bandwidth_ratio: float
    kv_bandwidth_ratio: float
    flops_ratio: float
    launch_seconds: float
    layer_seconds: float
    sequence_seconds: float
    parallel_layer_seconds: float
    parallel_token_seconds: float
    busy_watts: float
    joules_per_weight_byte: float
    joules_per_kv_byte: float
    joules_per_flop: float
    joules_per_sequence: float
    limit_ratio: float


@dataclass(frozen=True, slots=True)
class EngineCalibration:
    """What is known of one model on one hardware class beyond its sizes; `seconds_factors` are for `BATCHES`."""

    constants: FittedConstants
    seconds_factors: tuple[float, ...]


def step_seconds_of(constants: FittedConstants, hardware: Hardware, sizes: ModelSizes, gpus: int) -> StepSeconds:
    """Memory and arithmetic scale with the GPUs; the host's work, and what they say to each other, do not."""
    layers = _layers(sizes)
    flops_per_second = hardware.flops_per_second * constants.flops_ratio * gpus
    bytes_per_second = hardware.bytes_per_second * gpus
    per_layer, per_token = constants.layer_seconds, _flops_per_token(sizes) / flops_per_second
    if gpus > 1:
        per_layer += constants.parallel_layer_seconds
        # An all-reduce carries the hidden state in every layer; their product grows as parameters to the 2/3.
        per_token += constants.parallel_token_seconds * (_active(sizes) / 70e9) ** (2 / 3)
    return StepSeconds(
        launch=constants.launch_seconds + per_layer * layers,
        per_sequence=constants.sequence_seconds,
        weights=sizes.weight_bytes / (bytes_per_second * constants.bandwidth_ratio),
        per_token=per_token,
        per_context_token=sizes.kv_bytes_per_token / (bytes_per_second * constants.kv_bandwidth_ratio),
        per_pair=_flops_per_pair(sizes) / flops_per_second,
    )


def step_joules_of(constants: FittedConstants, sizes: ModelSizes, gpus: int) -> StepJoules:
    """The same work costs the same joules on however many GPUs; only `busy_watts` counts them."""
    return StepJoules(
        busy_watts=constants.busy_watts * gpus,
        per_sequence=constants.joules_per_sequence,
        weights=constants.joules_per_weight_byte * sizes.weight_bytes,
        per_token=constants.joules_per_flop * _flops_per_token(sizes),
        per_context_token=constants.joules_per_kv_byte * sizes.kv_bytes_per_token,
        per_pair=constants.joules_per_flop * _flops_per_pair(sizes),
    )


def _active(sizes: ModelSizes) -> float:
    return sizes.parameters if sizes.active_parameters is None else sizes.active_parameters


def _layers(sizes: ModelSizes) -> float:
    """An estimate from the parameters: 32 at 8e9 and 76 at 70e9 (Llama 3.1 has 32 and 80).

    A mixture of experts has about as many layers as a dense model between its active and its total parameters.
    """
    between = math.sqrt(_active(sizes) * sizes.parameters)
    return 32.0 * math.pow(between / 8e9, 0.4)


def _flops_per_token(sizes: ModelSizes) -> float:
    return 2.0 * _active(sizes)  # one multiplication and one addition per weight


def _flops_per_pair(sizes: ModelSizes) -> float:
    """Queries with keys and weights with values: 4 flops per layer and hidden unit, of which there are 128 a layer."""
    layers = _layers(sizes)
    return 4.0 * layers * 128.0 * layers
