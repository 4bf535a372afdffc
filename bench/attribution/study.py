"""One run for each engine and scenario: simulate, price by Shapley, meter, and compare the methods."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from zlib import crc32

import numpy as np

from bench.attribution.accuracy import Accuracy, accuracy, mean_accuracy
from bench.attribution.board import Board, SensorSettings, counter_info
from bench.attribution.engine import SimulatedEngine
from bench.attribution.metered import MeterBooks, MeteredRun
from bench.attribution.power_model import FloatArray
from bench.attribution.presets import PRESETS, EnginePreset
from bench.attribution.rivals import token_share_joules, whole_device_joules
from bench.attribution.shapley import shapley_values
from bench.attribution.trace import Trace
from bench.attribution.workload import SCENARIOS, Scenario, plan_requests

OURS: Final = "wattline"
TOKEN_SHARE: Final = "token share"  # noqa: S105  # no secret
WHOLE_DEVICE: Final = "whole device"
METHODS: Final = (OURS, TOKEN_SHARE, WHOLE_DEVICE)

_LOADING_SECONDS: Final = 1.0
_SETTLING_SECONDS: Final = 2.0  # several times what the meter extrapolates by
# A step's values must make up its energy; what is missing is floating-point rounding.
_EFFICIENCY_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What to run; the same settings give the same figures."""

    engines: tuple[EnginePreset, ...] = tuple(PRESETS.values())
    scenarios: tuple[Scenario, ...] = SCENARIOS
    sensor: SensorSettings = field(default_factory=SensorSettings)
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Truth:
    """What each request truly cost, in joules, by phase, and the standard errors of the sampling."""

    prefill: FloatArray
    decode: FloatArray
    standard_error: FloatArray

    @property
    def joules(self) -> FloatArray:
        return self.prefill + self.decode

    @property
    def error_ratio(self) -> float:
        """Mean standard error over mean energy, to be compared with the methods' `error_ratio`."""
        return float(self.standard_error.mean() / self.joules.mean())


@dataclass(frozen=True, slots=True)
class RunResult:
    """One engine in one scenario. `told` holds the joules of every request by method."""

    engine: str
    scenario: str
    steps: int
    mean_batch: float
    aborted: int
    preemptions: int
    truth: Truth
    told: dict[str, FloatArray]
    accuracy: dict[str, Accuracy]
    books: MeterBooks

    def as_json(self) -> dict[str, Any]:
        """Figures for programs."""
        return {
            "engine": self.engine,
            "scenario": self.scenario,
            "requests": len(self.truth.joules),
            "steps": self.steps,
            "mean_batch": self.mean_batch,
            "aborted": self.aborted,
            "preemptions": self.preemptions,
            "mean_request_joules": float(self.truth.joules.mean()),
            "shapley_standard_error_ratio": self.truth.error_ratio,
            "methods": {name: asdict(part) for name, part in self.accuracy.items()},
            "wattline_phase_error_ratio": self.phase_error_ratio(),
            "wattline_unattributed_ratio": self.books.unattributed_microjoules / self.books.counter_microjoules,
            "wattline_conservation_error_microjoules": self.books.conservation_error_microjoules,
        }

    def phase_error_ratio(self) -> dict[str, float]:
        """Our error by phase, each over the mean energy of a request, so that the two can be compared."""
        mean = float(self.truth.joules.mean())
        phases = {"prefill": self.truth.prefill, "decode": self.truth.decode}
        return {
            name: float(np.abs([getattr(one, name) for one in self.books.requests] - true).mean()) / mean
            for name, true in phases.items()
        }


@dataclass(frozen=True, slots=True)
class StudyResult:
    """All runs of a study."""

    settings: StudySettings
    runs: tuple[RunResult, ...]

    def overall(self) -> dict[str, Accuracy]:
        """The mean over runs, by method."""
        return {name: mean_accuracy([run.accuracy[name] for run in self.runs]) for name in METHODS}

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return {
            "seed": self.settings.seed,
            "sensor": asdict(self.settings.sensor),
            "runs": [run.as_json() for run in self.runs],
            "overall": {name: asdict(part) for name, part in self.overall().items()},
        }


def run(settings: StudySettings) -> StudyResult:
    """Runs every scenario on every engine."""
    return StudyResult(settings, tuple(_runs(settings)))


def _runs(settings: StudySettings) -> Iterator[RunResult]:
    for engine in settings.engines:
        for scenario in settings.scenarios:
            yield run_one(engine, scenario, settings.sensor, settings.seed)


def run_one(preset: EnginePreset, scenario: Scenario, sensor: SensorSettings, seed: int) -> RunResult:
    """One engine in one scenario. Its figures depend on its arguments only, and what runs does not on the sensor."""
    entropy = [seed, crc32(f"{preset.name}/{scenario.name}".encode())]
    requests_rng, sensor_rng, orders_rng = np.random.default_rng(entropy).spawn(3)
    capacity = round(preset.context_capacity_tokens * scenario.context_capacity_ratio)
    plans = plan_requests(scenario, preset, requests_rng, starts_at_seconds=_LOADING_SECONDS)
    trace = SimulatedEngine(preset, plans, capacity).run()
    truth = true_cost(preset, trace, orders_rng)
    board = Board(trace, lasts_seconds=trace.steps[-1].report.ended_at_seconds + _SETTLING_SECONDS)
    readings = board.readings(sensor, sensor_rng)
    books = MeteredRun(trace, readings, counter_info(sensor)).run(_LOADING_SECONDS)
    told = {
        OURS: np.array([request.joules for request in books.requests]),
        TOKEN_SHARE: token_share_joules(trace, board),
        WHOLE_DEVICE: whole_device_joules(trace, board),
    }
    active = sum(step.joules for step in trace.steps)
    return RunResult(
        engine=preset.name,
        scenario=scenario.name,
        steps=len(trace.steps),
        mean_batch=float(np.mean([len(step.members.requests) for step in trace.steps])),
        aborted=len(trace.aborted),
        preemptions=trace.preemptions,
        truth=truth,
        told=told,
        accuracy={name: accuracy(joules, truth.joules, active) for name, joules in told.items()},
        books=books,
    )


def true_cost(preset: EnginePreset, trace: Trace, rng: np.random.Generator) -> Truth:
    """Shapley values of every step, summed by request.

    Raises:
        ArithmeticError: the values of a step do not make up its energy.
    """
    count = len(trace.requests)
    prefill, decode, variance = np.zeros(count), np.zeros(count), np.zeros(count)
    for step in trace.steps:
        values = shapley_values(preset.power, step.members, rng)
        if abs(float(values.joules.sum()) - step.joules) > _EFFICIENCY_TOLERANCE * step.joules:
            raise ArithmeticError(f"Shapley values of {values.joules.sum()} J for a step of {step.joules} J")
        owners = np.array(step.members.requests)
        in_prefill = np.array(step.members.in_prefill)
        np.add.at(prefill, owners[in_prefill], values.joules[in_prefill])
        np.add.at(decode, owners[~in_prefill], values.joules[~in_prefill])
        np.add.at(variance, owners, values.variance)
    return Truth(prefill, decode, np.sqrt(variance))
