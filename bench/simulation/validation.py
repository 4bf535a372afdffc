"""How near the GPU model comes to measured points that it was not fitted to.

    python -m bench.simulation.validation --data FILE [--json]

answers three questions, each per model and hardware class. *Other rows*: the model was fitted to every second row of
the file (the first, the third ...) and is checked on the rest, and then the other way round. *Other models*: nothing of
the model is known but its sizes, and the class was fitted to the other models measured on it. *As shipped*: the preset,
or the sizes where there is none, on every row; shipped constants were fitted to all rows of the published file, so
this is a check only of other files.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.simulation.calibration import CLASS_CONSTANTS, ENGINE_CALIBRATIONS
from bench.simulation.constants import EngineCalibration, FittedConstants
from bench.simulation.engine_model import EngineModel
from bench.simulation.errors import SimulationSettingError
from bench.simulation.fit import fit_class, fit_engine
from bench.simulation.hardware import H100
from bench.simulation.points_file import MeasuredPoint, read_points
from bench.simulation.presets import calibrated, engine_from, hardware_named
from bench.simulation.serving_point import serving_point
from bench.simulation.sizes_of_points import sizes_of

_SIZES_LIMIT_RATIO: Final = 0.20
_ROWS_LIMIT_RATIO: Final = 0.08


@dataclass(frozen=True, slots=True)
class Errors:
    """Mean absolute errors over `points` of one model on one hardware class, as ratios of what was measured."""

    model: str
    hardware: str
    points: int
    power_error_ratio: float
    joules_per_output_token_error_ratio: float
    inter_token_error_ratio: float

    @property
    def largest_ratio(self) -> float:
        """The worst of the three."""
        return max(self.power_error_ratio, self.joules_per_output_token_error_ratio, self.inter_token_error_ratio)


@dataclass(frozen=True, slots=True)
class Validation:
    """One table per question, one line per model and hardware class; `left_out` says what no engine can be made of."""

    other_rows: tuple[Errors, ...]
    other_rows_swapped: tuple[Errors, ...]
    other_models: tuple[Errors, ...]
    as_shipped: tuple[Errors, ...]
    left_out: tuple[str, ...]


def validate(points: Sequence[MeasuredPoint]) -> Validation:
    """Fits and checks. A model with fewer than two rows has no other rows, one that is alone on its class no others."""
    groups, left_out = _groups(points)
    return Validation(
        other_rows=_other_rows(groups, fitted_half=0),
        other_rows_swapped=_other_rows(groups, fitted_half=1),
        other_models=_other_models(groups),
        as_shipped=tuple(
            _errors(group, ENGINE_CALIBRATIONS.get((hardware, model)) or CLASS_CONSTANTS[hardware])
            for (model, hardware), group in groups.items()
        ),
        left_out=left_out,
    )


_Groups = dict[tuple[str, str], list[MeasuredPoint]]


def _groups(points: Iterable[MeasuredPoint]) -> tuple[_Groups, tuple[str, ...]]:
    groups: _Groups = {}
    left_out: dict[str, None] = {}
    for point in points:
        try:
            _engine(point, CLASS_CONSTANTS.get(point.hardware, CLASS_CONSTANTS[H100.name]))
        except SimulationSettingError as error:
            left_out[f"{point.model} on {point.hardware}: {error}"] = None
        else:
            groups.setdefault((point.model, point.hardware), []).append(point)
    return groups, tuple(left_out)


def _other_rows(groups: _Groups, *, fitted_half: int) -> tuple[Errors, ...]:
    fitted = {key: group[fitted_half::2] for key, group in groups.items() if len(group) > 1}
    classes = {
        hardware: fit_class([point for (_, other), half in fitted.items() if other == hardware for point in half])
        for hardware in dict.fromkeys(hardware for _, hardware in fitted)
    }
    return tuple(
        _errors(groups[model, hardware][1 - fitted_half :: 2], fit_engine(half, classes[hardware]))
        for (model, hardware), half in fitted.items()
    )


def _other_models(groups: _Groups) -> tuple[Errors, ...]:
    results = []
    for (model, hardware), group in groups.items():
        others = [point for key, points in groups.items() if key[1] == hardware and key[0] != model for point in points]
        if others:
            results.append(_errors(group, fit_class(others)))
    return tuple(results)


def _engine(point: MeasuredPoint, known: FittedConstants | EngineCalibration) -> EngineModel:
    device, sizes = hardware_named(point.hardware), sizes_of(point)
    if isinstance(known, FittedConstants):
        return engine_from(known, device, sizes, gpus=point.gpus)
    return calibrated(engine_from(known.constants, device, sizes, gpus=point.gpus), known.seconds_factors)


def _errors(points: Sequence[MeasuredPoint], known: FittedConstants | EngineCalibration) -> Errors:
    first, sums = points[0], [0.0, 0.0, 0.0]
    engines = {(point.gpus, point.precision): _engine(point, known) for point in points}
    for point in points:
        predicted, measured = (
            asdict(serving_point(engines[point.gpus, point.precision], point.work)),
            asdict(point.measured),
        )
        for at, name in enumerate(measured):
            sums[at] += abs(predicted[name] / measured[name] - 1)
    return Errors(first.model, first.hardware, len(points), *(each / len(points) for each in sums))


def format_validation(result: Validation) -> str:
    """The tables as text, errors in percent; `*` marks a line over the limit that the project set itself."""
    tables = (
        ("Fitted to every second row, checked on the others", result.other_rows, _ROWS_LIMIT_RATIO),
        ("The same, halves swapped", result.other_rows_swapped, _ROWS_LIMIT_RATIO),
        ("By sizes alone, the class fitted to the other models", result.other_models, _SIZES_LIMIT_RATIO),
        ("As shipped, every row", result.as_shipped, None),
    )
    lines = []
    for title, errors, limit in tables:
        lines += [title, f"  {'model':26}{'hardware':10}{'points':>6}{'power':>9}{'J/token':>9}{'ITL':>9}"]
        for line in errors:
            over = limit is not None and line.largest_ratio > limit
            figures = (line.power_error_ratio, line.joules_per_output_token_error_ratio, line.inter_token_error_ratio)
            cells = "".join(f"{100 * figure:8.1f}%" for figure in figures)
            lines.append(f"  {line.model:26}{line.hardware:10}{line.points:6}{cells}{' *' if over else ''}")
        if limit is not None:
            lines.append(f"  * over {100 * limit:.0f} %")
        lines.append("")
    lines += [f"Left out: {reason}" for reason in result.left_out]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        prog="wattline bench gpu-model", description="How near is the simulator's GPU model to measured points?"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="measured serving points, CSV")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    try:
        result = validate(read_points(given.data))
    except SimulationSettingError as error:
        parser.error(str(error))
    print(json.dumps(asdict(result), indent=2) if given.json else format_validation(result))


if __name__ == "__main__":
    main()
