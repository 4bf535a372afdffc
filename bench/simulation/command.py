"""`wattline simulate`: reads the arguments, runs the policies and prints the result."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench.simulation.arguments import build_parser
from bench.simulation.engine_model import EngineModel
from bench.simulation.errors import SimulationSettingError
from bench.simulation.figures import RunFigures, figures_of
from bench.simulation.presets import engine_model, engine_model_of_sizes
from bench.simulation.report import format_runs, saved_ratio
from bench.simulation.sizing import smallest_fleet
from bench.simulation.study import StudySettings, run_policy
from bench.simulation.trace import TraceRequest, read_trace
from bench.simulation.workload import SECONDS_PER_DAY, PlannedRequest, WorkloadSettings, plan_requests
from scheduler.errors import SchedulerSettingError
from scheduler.limits import SchedulerLimits
from scheduler.targets import LatencyTargets

_USAGE_ERROR: Final = 2
_FAILURE: Final = 1
_SECONDS_PER_HOUR: Final = 3600.0
_MOST_GPUS: Final = 10_000  # far beyond any fleet that one scheduler serves; a slip of the finger


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study. What the operator got wrong is one line on stderr and exit code 2.

    Exit code 1 where the plot cannot be written, after the figures have been printed.
    """
    given = build_parser().parse_args(arguments)
    try:
        runs, sizing = _simulate(given)
    except (SimulationSettingError, SchedulerSettingError) as error:
        sys.stderr.write(f"wattline: error: {error}\n")
        sys.exit(_USAGE_ERROR)
    if given.json:
        print(json.dumps(_as_json(runs, sizing)))
    else:
        print("\n".join([*_sizing_lines(sizing), format_runs(runs)]))
    if given.plot is not None:
        _plot(runs, given.plot)


def _simulate(given: argparse.Namespace) -> tuple[list[RunFigures], dict[str, Any] | None]:
    settings = StudySettings(
        model=_engine_model(given),
        targets=LatencyTargets(given.slo_ttft_seconds, given.slo_tpot_seconds),
        limits=SchedulerLimits(
            max_queued_requests=given.max_queued_requests,
            queue_timeout_seconds=given.queue_timeout_seconds,
            flex_wait_seconds=given.flex_wait_seconds,
            min_workers=given.min_workers,
            power_cap_watts=given.power_cap_watts,
        ),
        report_seconds=given.report_seconds,
    )
    workload = _workload(given)
    workers = _workers(given, settings.model)
    trace = read_trace(given.trace)
    requests = plan_requests(trace, workload)
    sizing = None
    if given.size_fleet is not None:
        workers, sizing = _size_fleet(given, settings, trace, workload)
    # Each once, in the order given; the first is compared with the others.
    policies = dict.fromkeys([*(given.policy or [given.default_policy]), *(given.compare or [])])
    return [_run(settings, policy, workers, requests) for policy in policies], sizing


def _run(settings: StudySettings, policy: str, workers: int, requests: Sequence[PlannedRequest]) -> RunFigures:
    return figures_of(run_policy(settings, policy, workers, requests))


def _engine_model(given: argparse.Namespace) -> EngineModel:
    sizes = (given.parameters, given.weight_bytes, given.kv_bytes_per_token)
    if any(size is not None for size in sizes):
        if None in sizes:
            raise SimulationSettingError(
                "a model of its sizes needs --parameters, --weight-bytes and --kv-bytes-per-token, all three"
            )
        model = engine_model_of_sizes(given.gpu, *sizes, given.gpus_per_engine, given.active_parameters)
        model = model if given.model is None else replace(model, name=given.model)
    else:
        if given.gpus_per_engine is not None or given.active_parameters is not None:
            raise SimulationSettingError("--gpus-per-engine and --active-parameters need --parameters and its like")
        model = engine_model(given.gpu, given.model or "llama-3.1-8b")
    changes = {name: getattr(given, name) for name in ("max_batched_tokens", "max_sequences")}
    return replace(model, **{name: value for name, value in changes.items() if value is not None})


def _workload(given: argparse.Namespace) -> WorkloadSettings:
    duration_seconds = given.duration_seconds
    if given.hours is not None:
        duration_seconds = given.hours * _SECONDS_PER_HOUR
    if duration_seconds is None and given.diurnal_peak_to_trough != 1:
        duration_seconds = SECONDS_PER_DAY
    return WorkloadSettings(
        rate_scale=given.rate_scale,
        duration_seconds=duration_seconds,
        peak_to_trough_ratio=given.diurnal_peak_to_trough,
        period_seconds=given.diurnal_period_seconds,
        flex_share_ratio=given.flex_share,
        limit_requests=given.limit_requests,
        seed=given.seed,
    )


def _workers(given: argparse.Namespace, model: EngineModel) -> int:
    if given.gpus < 1 or given.gpus % model.gpus:
        raise SimulationSettingError(
            f"--gpus is {given.gpus}, expected a multiple of {model.gpus}: one engine of {model.name} needs so many"
        )
    if given.gpus > _MOST_GPUS:
        raise SimulationSettingError(f"--gpus is {given.gpus}, expected at most {_MOST_GPUS}")
    return int(given.gpus) // model.gpus


def _size_fleet(
    given: argparse.Namespace, settings: StudySettings, trace: Sequence[TraceRequest], workload: WorkloadSettings
) -> tuple[int, dict[str, Any]]:
    """The fleet for the whole trace once, at the peak's rate and so much more."""
    headroom = given.size_headroom
    if not 0 < headroom < float("inf"):
        raise SimulationSettingError(f"--size-headroom is {headroom}, expected a finite number above 0, like 1.25")
    peak = WorkloadSettings(
        rate_scale=workload.rate_scale * headroom, flex_share_ratio=workload.flex_share_ratio, seed=workload.seed
    )
    workers = smallest_fleet(settings, given.size_fleet, plan_requests(trace, peak))
    return workers, {
        "policy": given.size_fleet,
        "headroom": headroom,
        "workers": workers,
        "gpus": workers * settings.model.gpus,
    }


def _sizing_lines(sizing: dict[str, Any] | None) -> list[str]:
    if sizing is None:
        return []
    found = (
        f"{sizing['policy']} keeps to both targets at {sizing['headroom']:g} times the peak with {sizing['gpus']} GPUs "
        f"({sizing['workers']} engines), and not with one engine fewer"
    )
    return [found, ""]


def _as_json(runs: Sequence[RunFigures], sizing: dict[str, Any] | None) -> dict[str, Any]:
    """The first run, and beside it the others it is compared with."""
    first = runs[0]
    result = first.as_json()
    if sizing is not None:
        result["sizing"] = sizing
    if len(runs) > 1:
        result["comparison"] = [{"saved_ratio": saved_ratio(first, other), **other.as_json()} for other in runs[1:]]
    return result


def _plot(runs: Sequence[RunFigures], path: Path) -> None:
    from bench.simulation.plot import write_plot  # noqa: PLC0415  # only a plot needs what it imports

    try:
        write_plot(runs, path)
    except ModuleNotFoundError as error:
        problem = f"--plot needs {error.name}: install Wattline's extra `bench`"
    except (OSError, ValueError) as error:
        problem = f"--plot {path}: {error}"
    else:
        return
    sys.stderr.write(f"wattline: error: {problem}\n")
    sys.exit(_FAILURE)
