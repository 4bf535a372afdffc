"""What each method tells a request against what it truly cost, a dot a request. Needs matplotlib."""

from pathlib import Path
from typing import Final

import numpy as np

from bench.attribution.study import METHODS, StudyResult

_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#666666")  # for all eyes
_TITLES: Final = {
    "wattline": "Wattline",
    "token share": "duration × share of tokens",
    "whole device": "whole device",
}


def write_plot(result: StudyResult, path: Path) -> None:
    """Writes one panel for each method, in the format of the path's suffix (png, svg, pdf).

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: the suffix names no format that can be written.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional, and slow to load

    figure = Figure(figsize=(13.5, 5.2), layout="constrained")
    panels = figure.subplots(1, len(METHODS), sharex=True, sharey=True)
    scenarios = list(dict.fromkeys(run.scenario for run in result.runs))
    overall = result.overall()
    energies = np.concatenate([run.truth.joules[run.truth.joules > 0] for run in result.runs])
    bounds = float(energies.min()) / 2, float(energies.max()) * 2
    for axes, method in zip(panels, METHODS, strict=True):
        for colour, scenario in zip(_COLOURS * 2, scenarios, strict=False):
            runs = [run for run in result.runs if run.scenario == scenario]
            true = np.concatenate([run.truth.joules for run in runs])
            told = np.concatenate([run.told[method] for run in runs])
            shown = (true > 0) & (told > 0)
            axes.scatter(true[shown], told[shown], s=3, c=colour, alpha=0.35, linewidths=0, rasterized=True)
            axes.scatter([], [], s=28, c=colour, label=scenario)
        axes.plot(bounds, bounds, color="black", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlim=bounds, title=_title(method, overall[method].error_ratio))
        axes.set_xlabel("true cost of the request (Shapley), joules")
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("told to the caller, joules")
    panels[0].legend(loc="upper left", frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def _title(method: str, error_ratio: float) -> str:
    error = f"{error_ratio:.1%}" if error_ratio < 1 else f"{error_ratio:.0f} times the cost"
    return f"{_TITLES[method]}: mean error {error}"
