"""Fits the constants to measured points; a tool of development, whose results stand in `calibration.py`.

    python -m bench.simulation.fit --data FILE

prints them. Each class of hardware is fitted over all its models, each with equal weight, from what is expected before
any measurement; each model on it from the class. The further a constant moves from where it starts, relative to how
uncertain that was, the more it costs, so that constants that few points determine stay sane. A robust loss keeps
single points that no smooth curve meets from bending it.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from bench.simulation.batch_correction import BATCHES
from bench.simulation.constants import EngineCalibration, FittedConstants
from bench.simulation.hardware import HARDWARE
from bench.simulation.points_file import MeasuredPoint, read_points
from bench.simulation.presets import engine_from
from bench.simulation.serving_point import ServingPoint, serving_point
from bench.simulation.sizes_of_points import sizes_of

FloatArray = npt.NDArray[np.float64]

# What one expects of a GPU that serves through vLLM. Most of a data sheet's bandwidth and six tenths of its arithmetic
# are reached; a layer launches about ten kernels in a few microseconds each; an all-reduce takes about 10 µs, two of
# them a layer; memory and arithmetic take about what makes them reach the power limit.
EXPECTED: Final = FittedConstants(
    bandwidth_ratio=0.85,
    kv_bandwidth_ratio=0.8,
    flops_ratio=0.6,
    launch_seconds=0.6e-3,
    layer_seconds=15e-6,
    sequence_seconds=25e-6,
    parallel_layer_seconds=20e-6,
    parallel_token_seconds=8e-6,
    busy_watts=60.0,
    joules_per_weight_byte=100e-12,
    joules_per_kv_byte=100e-12,
    joules_per_flop=1.2e-12,
    joules_per_sequence=5e-3,
    limit_ratio=0.98,
)
# How uncertain that is: standard deviations of the logarithms.
_CLASS_SPREAD: Final = FittedConstants(
    bandwidth_ratio=0.12,
    kv_bandwidth_ratio=0.4,
    flops_ratio=0.12,
    launch_seconds=0.5,
    layer_seconds=0.6,
    sequence_seconds=0.7,
    parallel_layer_seconds=0.4,
    parallel_token_seconds=0.5,
    busy_watts=0.5,
    joules_per_weight_byte=0.4,
    joules_per_kv_byte=0.4,
    joules_per_flop=0.4,
    joules_per_sequence=1.0,
    limit_ratio=0.02,
)
# How much one model may differ from the others on the same hardware.
_ENGINE_SPREAD: Final = replace(
    FittedConstants(**dict.fromkeys(asdict(EXPECTED), 0.5)), flops_ratio=0.25, limit_ratio=0.03
)
_NOISE: Final = 0.05  # of a measured figure, as a ratio: a board's power sensor alone is ±5 % (arXiv 2312.02741)
# How strongly a factor is drawn to 1 and to its neighbours, against the weight of one point.
_SMALLNESS: Final = 0.05
_SMOOTHNESS: Final = 0.1
_EVEN_POINTS: Final = 8.0  # every model weighs as much as this many points, however many it has


@dataclass(frozen=True, slots=True)
class Calibration:
    """Constants by hardware class, and by hardware class and model."""

    classes: Mapping[str, FittedConstants]
    engines: Mapping[tuple[str, str], EngineCalibration]


def fit_all(points: Iterable[MeasuredPoint]) -> Calibration:
    """Both kinds of constants, of everything that `points` measure."""
    by_class: dict[str, list[MeasuredPoint]] = {}
    for point in points:
        by_class.setdefault(point.hardware, []).append(point)
    classes = {hardware: fit_class(members) for hardware, members in by_class.items()}
    engines = {
        (hardware, model): fit_engine([point for point in members if point.model == model], classes[hardware])
        for hardware, members in by_class.items()
        for model in dict.fromkeys(point.model for point in members)
    }
    return Calibration(classes, engines)


def fit_class(points: Sequence[MeasuredPoint]) -> FittedConstants:
    """The constants that all models measured on one hardware class share."""
    return _fit(points, EXPECTED, _CLASS_SPREAD)


def fit_engine(points: Sequence[MeasuredPoint], of_class: FittedConstants) -> EngineCalibration:
    """The constants of one model on one hardware class, and factors for what they leave unexplained."""
    constants = _fit(points, of_class, _ENGINE_SPREAD)
    return EngineCalibration(constants, _fit_factors(points, constants))


def _fit(points: Sequence[MeasuredPoint], start: FittedConstants, spread: FittedConstants) -> FittedConstants:
    names = list(asdict(start))
    at, widths = np.array(list(asdict(start).values())), np.array(list(asdict(spread).values()))
    counts = Counter(point.model for point in points)
    weights = np.repeat([(_EVEN_POINTS / counts[point.model]) ** 0.5 for point in points], 3)

    most = np.full(len(names), np.inf)
    limit = names.index("limit_ratio")
    most[limit] = np.log(1 / at[limit]) / widths[limit]  # no board draws more than its limit

    def constants(moves: FloatArray) -> FittedConstants:
        return FittedConstants(**dict(zip(names, (at * np.exp(moves * widths)).tolist(), strict=True)))

    def residuals(moves: FloatArray) -> FloatArray:
        misses = weights * _misses(points, constants(moves)) / _NOISE
        robust = np.sign(misses) * np.sqrt(2 * (np.sqrt(1 + misses * misses) - 1))
        return np.concatenate([robust, moves])

    return constants(least_squares(residuals, np.zeros(len(names)), bounds=(-np.inf, most)).x)


def _fit_factors(points: Sequence[MeasuredPoint], constants: FittedConstants) -> tuple[float, ...]:
    """Ridge regression on hats at `BATCHES`: neighbours are drawn together, all are drawn to 1.

    The seconds of a step are seen twice, in joules per token over watts and in the time between tokens.
    """
    watts, joules, inter_token = _misses(points, constants).reshape(-1, 3).T
    knots, unit = np.log(BATCHES), np.eye(len(BATCHES))
    places = np.log([point.work.sequences for point in points])
    hats = np.stack([np.interp(places, knots, hat) for hat in unit], axis=1)
    steps = np.diff(unit, axis=0)
    penalty = _SMALLNESS * unit + _SMOOTHNESS * steps.T @ steps
    logarithms = np.linalg.solve(hats.T @ hats + penalty, hats.T @ -(joules - watts + inter_token) / 2)
    return tuple(np.exp(logarithms).tolist())


def _misses(points: Sequence[MeasuredPoint], constants: FittedConstants) -> FloatArray:
    """Logarithms of predicted over measured, three a point."""
    predicted: list[ServingPoint] = []
    for point in points:
        engine = engine_from(constants, HARDWARE[point.hardware], sizes_of(point), gpus=point.gpus)
        predicted.append(serving_point(engine, point.work))
    figures = np.array([_figures(point) for point in predicted])
    measured = np.array([_figures(point.measured) for point in points])
    misses: FloatArray = np.log(figures / measured).ravel()
    return misses


def _figures(point: ServingPoint) -> tuple[float, float, float]:
    return (point.power_watts, point.joules_per_output_token, point.median_inter_token_seconds)


def _source(constants: FittedConstants) -> str:
    """The Python that makes them, to four digits."""
    return f"FittedConstants({', '.join(f'{name}={value:.4g}' for name, value in asdict(constants).items())})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the two tables of `calibration.py`."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation.fit", description="Fit to measured points.")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE")
    calibration = fit_all(read_points(parser.parse_args(arguments).data))
    for hardware, constants in calibration.classes.items():
        print(f"{hardware!r}: {_source(constants)},")
    for key, engine in calibration.engines.items():
        factors = ", ".join(f"{factor:.4g}" for factor in engine.seconds_factors)
        print(f"{key!r}: EngineCalibration({_source(engine.constants)}, seconds_factors=({factors})),")


if __name__ == "__main__":
    main()
