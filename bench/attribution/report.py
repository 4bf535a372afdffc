"""The study as a table for people."""

from bench.attribution.accuracy import Accuracy
from bench.attribution.study import METHODS, OURS, RunResult, StudyResult

_HEAD = (
    f"{'':25} {'':>8} {'wattline':^26}  {'token share':^26}  {'whole device':^26}\n"
    f"{'engine, scenario':25} {'J/req.':>8}" + f" {'error':>8} {'p95':>8} {'sum':>8} " * 3 + f" {'books':>6}"
)


def format_study(result: StudyResult) -> str:
    """One line for each run, then the mean over them and what the columns mean."""
    lines = [_HEAD, *(_run_line(run) for run in result.runs)]
    overall = result.overall()
    error_microjoules = max((abs(run.books.conservation_error_microjoules) for run in result.runs), default=0)
    lines.append(f"{'mean of all':25} {'':>8}" + "".join(_cells(overall[name]) for name in METHODS))
    lines.append("")
    lines += [
        f"error against {name}: {overall[OURS].error_ratio / overall[name].error_ratio:.3f} of theirs"
        for name in METHODS
        if name != OURS
    ]
    lines.append(f"largest conservation error of our books: {error_microjoules} microjoules")
    sampling = max(run.truth.error_ratio for run in result.runs)
    lines.append(f"largest standard error of the Shapley values themselves: {sampling:.2%} of a request's mean energy")
    lines.append(
        "error: mean |told - Shapley| over mean Shapley; p95: 95th percentile of |told - Shapley| / Shapley; "
        "sum: all that was told over all that the steps cost; books: microjoules missing from ours"
    )
    return "\n".join(lines)


def _run_line(run: RunResult) -> str:
    cells = "".join(_cells(run.accuracy[name]) for name in METHODS)
    mean_joules = float(run.truth.joules.mean())
    return (
        f"{f'{run.engine}, {run.scenario}':25} {mean_joules:8.3g}{cells} {run.books.conservation_error_microjoules:>6}"
    )


def _cells(part: Accuracy) -> str:
    return f" {_percent(part.error_ratio):>8} {_percent(part.request_error_p95_ratio):>8} {part.sum_ratio:8.3f} "


def _percent(ratio: float) -> str:
    return f"{ratio:.1%}" if ratio < 10 else f"{ratio:.0%}"
