"""Power, target attainment and awake workers over time, all policies in one picture. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.simulation.figures import PROMISED_RATIO, RunFigures

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # for all eyes
_SECONDS_PER_MINUTE: Final = 60.0
_SECONDS_PER_HOUR: Final = 3600.0
_HOURS_FROM_SECONDS: Final = 2 * _SECONDS_PER_HOUR


def write_plot(runs: Sequence[RunFigures], path: Path) -> None:
    """Writes three panels over one axis of time, in the format of the path's suffix (png, svg, pdf).

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        ValueError: the suffix names no format that can be written.
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # optional, and slow to load
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # likewise

    longest_seconds = max(run.duration_seconds for run in runs)
    unit, unit_seconds = ("minutes", _SECONDS_PER_MINUTE)
    if longest_seconds > _HOURS_FROM_SECONDS:
        unit, unit_seconds = ("hours", _SECONDS_PER_HOUR)
    figure = Figure(figsize=(10, 8.5), layout="constrained")
    power, attainment, awake = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    for run, colour in zip(runs, _COLOURS * len(runs), strict=False):
        moments = run.moments
        times = [0.0, *(moment.at_seconds / unit_seconds for moment in moments)]
        label = f"{run.policy}: {run.energy_joules / 1e6:,.2f} MJ"
        watts = [moment.power_watts / 1e3 for moment in moments]
        power.stairs(watts, times, baseline=None, color=colour, label=label, linewidth=1.4)
        power.stairs(watts, times, color=colour, fill=True, alpha=0.1)
        known = [
            (at, moment.slo_attainment_ratio)
            for at, moment in zip(times[1:], moments, strict=True)
            if moment.slo_attainment_ratio is not None
        ]
        attainment.plot([at for at, _ in known], [ratio * 100 for _, ratio in known], color=colour, linewidth=1.2)
        counts = [moment.awake_workers for moment in moments]
        awake.stairs(counts, times, baseline=None, color=colour, linewidth=1.6)
    first = runs[0]
    attainment.axhline(PROMISED_RATIO * 100, color="black", linewidth=0.8, linestyle="--")
    power.set(ylabel="power of all GPUs, kW", ylim=(0, None), title=_title(first))
    attainment.set(ylabel="within both targets, %")
    lowest, _ = attainment.get_ylim()
    attainment.set_ylim(min(lowest, 98.0), 100.2)
    awake.set(ylabel="awake workers, mean", xlabel=f"{unit} since the first arrival", ylim=(0, first.workers + 0.5))
    awake.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    figure.legend(loc="outside upper center", frameon=False, ncols=len(runs))
    power.margins(x=0)
    for axes in (power, attainment, awake):
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def _title(run: RunFigures) -> str:
    targets = run.targets
    return (
        f"{run.engine} on {run.gpus} × {run.hardware}, p99 targets: "
        f"TTFT {targets.ttft_seconds:g} s, TPOT {targets.tpot_seconds * 1e3:g} ms"
    )
