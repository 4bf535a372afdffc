"""A study as a table for people: one column for each policy."""

from collections.abc import Callable, Sequence

from bench.simulation.energy_books import Account
from bench.simulation.figures import RunFigures

_WIDTH = 14


def format_runs(runs: Sequence[RunFigures]) -> str:
    """The first run is compared with the others."""
    first = runs[0]
    urgent = first.latency.requests
    total = sum(first.outcomes.values())
    basis = "is fitted to measurements of this pair" if first.is_measured else "follows from sizes, is not measured"
    asked = (
        f"{total:,} requests over {_duration(first.duration_seconds)}, {total - urgent:,} of them flex; targets: "
        f"p99 TTFT {first.targets.ttft_seconds:g} s, p99 TPOT {first.targets.tpot_seconds:g} s"
    )
    lines = [
        f"{first.gpus} × {first.hardware}, {first.engine}, {first.workers} engines; the GPU model {basis}",
        asked,
        "",
        f"{'':34}" + "".join(f"{run.policy:>{_WIDTH}}" for run in runs),
    ]
    lines += [_line(label, [cell(run) for run in runs]) for label, cell in _rows(runs)]
    lines += ["", *(_saving(first, other) for other in runs[1:])] if len(runs) > 1 else []
    return "\n".join(lines)


def saved_ratio(run: RunFigures, other: RunFigures) -> float:
    """The share of the other's energy that `run` does without; negative where it spends more."""
    return 1 - run.energy_joules / other.energy_joules


def _rows(runs: Sequence[RunFigures]) -> list[tuple[str, Callable[[RunFigures], str]]]:
    rows: list[tuple[str, Callable[[RunFigures], str]]] = [
        ("energy, kilojoules", lambda run: f"{run.energy_joules / 1e3:,.1f}")
    ]
    rows += [
        (f"  {account.value}", lambda run, account=account: f"{run.microjoules[account] / 1e9:,.1f}")  # type: ignore[misc]  # mypy cannot see the default's type
        for account in Account
    ]
    rows += [
        ("joules per output token", lambda run: _number(run.joules_per_output_token, 3)),
        ("mean power, watts", lambda run: _number(run.mean_power_watts, 0)),
        ("peak power, watts", lambda run: _number(run.peak_power_watts, 0)),
        ("awake workers, mean", lambda run: _number(run.mean_awake_workers, 2)),
        ("awake GPU-hours", lambda run: f"{run.awake_gpu_seconds / 3600:,.2f}"),
        ("both targets met", lambda run: {True: "yes", False: "NO", None: "–"}[run.latency.targets_met]),
        ("requests within both targets", lambda run: _percent(run.latency.slo_attainment_ratio)),
        ("TTFT p50, seconds", lambda run: _number(run.latency.ttft_seconds.p50, 3)),
        ("TTFT p99, seconds", lambda run: _number(run.latency.ttft_seconds.p99, 3)),
        ("TPOT p50, milliseconds", lambda run: _milliseconds(run.latency.tpot_seconds.p50)),
        ("TPOT p99, milliseconds", lambda run: _milliseconds(run.latency.tpot_seconds.p99)),
        ("requests not served", lambda run: f"{sum(run.outcomes.values()) - run.outcomes.get('served', 0):,}"),
        ("parked / started", lambda run: f"{run.commands.get('park', 0)} / {run.commands.get('start', 0)}"),
    ]
    if any(run.flex.figures.requests for run in runs):
        rows += [
            ("flex wait p50, seconds", lambda run: _number(run.flex.wait_seconds.p50, 1)),
            ("flex wait p99, seconds", lambda run: _number(run.flex.wait_seconds.p99, 1)),
            ("flex TTFT p99, seconds", lambda run: _number(run.flex.figures.ttft_seconds.p99, 1)),
            ("flex deadlines missed", lambda run: f"{run.flex.deadlines_missed:,}"),
        ]
    return rows


def _line(label: str, cells: Sequence[str]) -> str:
    return f"{label:34}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells)


def _saving(first: RunFigures, other: RunFigures) -> str:
    ratio = saved_ratio(first, other)
    return f"{first.policy} spends {abs(ratio):.1%} {'less' if ratio >= 0 else 'more'} than {other.policy}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _milliseconds(value: float | None) -> str:
    return _number(None if value is None else value * 1e3, 1)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"
