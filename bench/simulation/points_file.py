"""Reads measured serving points: a CSV file in the form in which the ML.ENERGY Benchmark's were handed on."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.simulation.errors import SimulationSettingError
from bench.simulation.serving_point import ServingPoint, Workload

# The names of that file, to ours.
MODEL_NAMES: Final = {
    "Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "Qwen3-8B": "qwen3-8b",
    "gemma-3-12b-it": "gemma-3-12b",
}


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """One row: the engine, what it served, and what was measured. `parameters` and `precision` are as published."""

    model: str
    hardware: str
    gpus: int
    parameters: float
    precision: str
    max_sequences: int
    work: Workload
    measured: ServingPoint


def read_points(path: Path) -> tuple[MeasuredPoint, ...]:
    """Every row, in the file's order. Raises `SimulationSettingError` for a file that is none of this form."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_point(row) for row in csv.DictReader(file))
    except OSError as error:
        raise SimulationSettingError(f"data={str(path)!r}: expected a readable file: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SimulationSettingError(f"data={str(path)!r}: expected serving points as CSV: {error!r}") from error


def _point(row: dict[str, str]) -> MeasuredPoint:
    published = row["model"].partition("/")[0]
    return MeasuredPoint(
        model=MODEL_NAMES.get(published, published),
        hardware=row["gpu"].lower(),
        gpus=int(row["num_gpus"]),
        parameters=float(row["total_params_billions"]) * 1e9,
        precision=row["weight_precision"],
        max_sequences=int(row["max_num_seqs"]),
        work=Workload(float(row["mean_batch_size"]), float(row["mean_output_tokens"])),
        measured=ServingPoint(
            float(row["mean_power_watts"]),
            float(row["joules_per_output_token"]),
            float(row["median_itl_milliseconds"]) / 1000,
        ),
    )
