"""Reads measured serving points: a CSV file in the form in which the ML.ENERGY Benchmark's were handed on."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.simulation.errors import SimulationSettingError
from bench.simulation.serving_point import ServingPoint, Workload

# What published names add to those of our presets: tuning, and the precision, which has a column of its own.
_SUFFIX: Final = re.compile(r"(-(instruct|it|chat|thinking|\d{4}|fp8|bf16|v\d[\d.]*))+$")


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
    return MeasuredPoint(
        model=_SUFFIX.sub("", row["model"].partition("/")[0].lower()),
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
