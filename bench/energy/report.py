"""The benchmark as a table for people."""

from bench.energy.figures import RunFigures
from bench.energy.study import StudyResult, StudySettings

_HEAD = (
    f"{'policy, round':17} {'tokens':>6} {'CPU ms':>7} {'J':>6} {'TTFT s':^13} {'TPOT ms':^11} {'within':>6} "
    f"{'running':>9} {'front':>6} {'others':>6}\n"
    f"{'':17} {'':>6} {'/token':>7} {'/token':>6} {'p50':>6} {'p99':>6} {'p50':>5} {'p99':>5} {'TTFT':>6} "
    f"{'/engine':>9} {'end s':>6} {'cores':>6}"
)


def format_study(result: StudyResult) -> str:
    """A line for each run and each policy's median, what became of the requests, and how the policies compare."""
    settings = result.settings
    lines = [
        _load_line(settings),
        "",
        _HEAD,
        *(_run_line(run) + (" disturbed" if result.is_disturbed(run) else "") for run in result.runs),
        *(_median_line(result, policy) for policy in settings.policies),
        "",
        *(_where_line(run) for run in result.runs),
        "",
        *_comparison(result),
    ]
    return "\n".join(lines)


def _load_line(settings: StudySettings) -> str:
    server = settings.server
    return (
        f"{server.workers} engines, {settings.requests} requests at {settings.requests_per_second:g}/s (Poisson, "
        f"seed {settings.seed}), answers of up to {settings.most_output_tokens} tokens; "
        f"targets TTFT {server.slo_ttft_seconds:g} s, TPOT {server.slo_tpot_seconds:g} s"
    )


def _run_line(run: RunFigures) -> str:
    sequences = "+".join(f"{mean:.1f}" for mean in run.running_requests.values())
    return (
        f"{f'{run.policy} {run.round_number}':17} {run.output_tokens:6d} {_thousandths(run.cpu_seconds_per_token):>7} "
        f"{_number(run.joules_per_token, 3):>6} {_number(run.ttft_p50_seconds, 2):>6} "
        f"{_number(run.ttft_p99_seconds, 2):>6} {_thousandths(run.tpot_p50_seconds, 0):>5} "
        f"{_thousandths(run.tpot_p99_seconds, 0):>5} {run.ttft_attainment_ratio:>6.1%} {sequences:>9} "
        f"{run.front_end_cpu_seconds:6.1f} {run.other_cores:6.2f}"
    )


def _median_line(result: StudyResult, policy: str) -> str:
    def median(figure: str) -> float | None:
        return result.median(policy, figure)

    attained = median("ttft_attainment_ratio")
    return (
        f"{f'{policy} median':24} {_thousandths(median('cpu_seconds_per_token')):>7} "
        f"{_number(median('joules_per_token'), 3):>6} {_number(median('ttft_p50_seconds'), 2):>6} "
        f"{_number(median('ttft_p99_seconds'), 2):>6} {_thousandths(median('tpot_p50_seconds'), 0):>5} "
        f"{_thousandths(median('tpot_p99_seconds'), 0):>5} {'-' if attained is None else f'{attained:.1%}':>6}"
    )


def _where_line(run: RunFigures) -> str:
    """Where a run's requests went and what its joules were for."""
    sent = "; ".join(
        f"{worker}: {', '.join(f'{count} {reason}' for reason, count in reasons.items())}"
        for worker, reasons in run.dispatches.items()
    )
    accounts = ", ".join(f"{name} {joules:.0f}" for name, joules in run.account_joules.items())
    commands = "; ".join(
        f"{worker} {command} {count}" for worker, done in run.worker_commands.items() for command, count in done.items()
    )
    line = (
        f"{run.policy} {run.round_number}: {run.window_seconds:.1f} s, {sent}; joules {run.energy_joules:.0f} "
        f"({accounts}; told to requests {run.request_joules:.0f}); idle engines {run.idle_cores:.2f} cores"
    )
    line += f"; {commands}" if commands else ""
    return line + (f"; FAILED {run.failed_requests}: {run.first_error}" if run.failed_requests else "")


def _comparison(result: StudyResult) -> list[str]:
    base, *others = result.settings.policies
    lines = []
    for policy in others:
        for figure, name in (("cpu_seconds_per_token", "CPU-seconds"), ("joules_per_token", "joules")):
            ratio = result.ratio(policy, base, figure)
            if ratio is None:
                continue
            by_round = ", ".join(
                "-" if one is None else f"{one:.3f}" for one in result.round_ratios(policy, base, figure)
            )
            lines.append(
                f"{policy} over {base}, {name} per output token, medians: {ratio:.3f} ({1 - ratio:.0%} fewer); "
                f"by round: {by_round}"
            )
    if any(map(result.is_disturbed, result.runs)):
        lines.append(
            "disturbed: so much else ran that the engines did not get their cores. Slowed down, they batch more under "
            "any policy, and the comparison is not of the load that was asked for"
        )
    if result.discarded:
        lines.append(f"{len(result.discarded)} disturbed runs were made again")
    lines.append(
        "CPU: user and system time of the engines' processes alone; running: mean sequences in each engine; "
        "others: cores kept busy by all else on this machine, the load client included"
    )
    return lines


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _thousandths(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{1000 * value:.{digits}f}"
