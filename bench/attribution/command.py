"""`wattline bench attribution`: reads the arguments, runs the study and prints the result."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.attribution.board import SensorSettings
from bench.attribution.presets import PRESETS
from bench.attribution.report import format_study
from bench.attribution.study import StudySettings, run
from bench.attribution.workload import SCENARIOS

_REFRESH: Final = (0.001, 10.0)  # of counters that anybody builds


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study. Exit code 1 where the plot cannot be written, after the figures have been printed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    if not (_REFRESH[0] <= given.refresh_seconds <= _REFRESH[1] and 0 < given.seen_ratio <= 1):
        parser.error(f"--refresh-seconds from {_REFRESH[0]} to {_REFRESH[1]}, --seen-ratio above 0 and up to 1")
    if not (0 <= given.noise_ratio <= 1 and given.seed >= 0):
        parser.error("--noise-ratio from 0 to 1, --seed at least 0")
    settings = StudySettings(
        engines=tuple(PRESETS[name] for name in given.engine or PRESETS),
        scenarios=tuple(scenarios[name] for name in given.scenario or scenarios),
        sensor=SensorSettings(given.refresh_seconds, given.seen_ratio, given.noise_ratio),
        seed=given.seed,
    )
    result = run(settings)
    print(json.dumps(result.as_json(), indent=2) if given.json else format_study(result))
    if given.plot is None:
        return
    from bench.attribution.plot import write_plot  # noqa: PLC0415  # only a plot needs what it imports

    try:
        write_plot(result, given.plot)
    except ModuleNotFoundError as error:
        sys.exit(f"wattline: error: --plot needs {error.name}: install Wattline's extra `bench`")
    except (OSError, ValueError) as error:
        sys.exit(f"wattline: error: --plot {given.plot}: {error}")


def _parser() -> argparse.ArgumentParser:
    sensor = SensorSettings()
    parser = argparse.ArgumentParser(
        prog="wattline bench attribution",
        description="How right is the energy that requests are told? A simulated engine whose true costs are known.",
    )
    parser.add_argument("--engine", action="append", choices=PRESETS, help="repeatable; all unless given")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=[scenario.name for scenario in SCENARIOS],
        help="repeatable; all unless given",
    )
    parser.add_argument("--refresh-seconds", type=float, default=sensor.refresh_seconds, help="of the energy counter")
    parser.add_argument("--seen-ratio", type=float, default=sensor.seen_ratio, help="of the time the sensor looks")
    parser.add_argument("--noise-ratio", type=float, default=sensor.noise_ratio, help="of each rise of the counter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a scatter plot: png, svg or pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
