"""An engine whose passes take time and joules that are linear in what they do: any jump over passes must be exact."""

from dataclasses import replace
from typing import Any, Final

from bench.simulation.engine_model import EngineModel, StepJoules, StepSeconds

_LINEAR: Final = EngineModel(
    name="linear",
    hardware="h100",
    gpus=1,
    idle_watts=100.0,
    parked_watts=50.0,
    start_seconds=20.0,
    start_watts=150.0,
    # So far away that power never bends towards it.
    limit_watts=1e12,
    kv_capacity_tokens=20_000,
    # No work of the host, with which the device's would overlap.
    seconds=StepSeconds(
        launch=0.0, weights=5e-3, per_token=0.0, per_sequence=0.0, per_context_token=1e-6, per_pair=1e-7
    ),
    joules=StepJoules(
        busy_watts=30.0, weights=1.0, per_token=0.05, per_sequence=0.01, per_context_token=2e-5, per_pair=1e-6
    ),
    max_sequences=8,
    max_batched_tokens=256,
)


def linear_model(**changes: Any) -> EngineModel:
    return replace(_LINEAR, **changes)
