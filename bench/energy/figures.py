"""From what was seen in a run to its figures: plain arithmetic over one `Measurement`."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from bench.energy.measurement import Measurement
from bench.energy.scrape import risen
from bench.http_load import percentile
from scheduler.targets import LatencyTargets


@dataclass(frozen=True, slots=True)
class RunFigures:
    """One run of one policy.

    `cpu_seconds` is that of all engines; joules are the workers' own accounts, `request_joules` what the answers were
    told. A request that failed has missed its targets. A figure is None where there is nothing to take it from.
    """

    policy: str
    round_number: int
    requests: int
    failed_requests: int
    first_error: str | None
    window_seconds: float
    output_tokens: int
    cpu_seconds: float
    cpu_seconds_per_token: float | None
    front_end_cpu_seconds: float
    other_cores: float
    idle_cores: float
    energy_joules: float
    account_joules: dict[str, float]
    request_joules: float
    joules_per_token: float | None
    counter_faults: int
    ttft_p50_seconds: float | None
    ttft_p99_seconds: float | None
    tpot_p50_seconds: float | None
    tpot_p99_seconds: float | None
    ttft_attainment_ratio: float
    tpot_attainment_ratio: float
    running_requests: dict[str, float]
    in_flight_requests: float
    dispatches: dict[str, dict[str, int]]
    worker_commands: dict[str, dict[str, int]]
    latest_send_seconds: float


def figures_of(policy: str, round_number: int, seen: Measurement, targets: LatencyTargets) -> RunFigures:
    """The figures of one run."""
    answers = seen.answers
    ended = [answer for answer in answers if answer.error is None]
    output_tokens = sum(answer.output_tokens or 0 for answer in answers)
    energy_joules = seen.last.energy_joules - seen.first.energy_joules
    ttft = sorted(one.first_token_seconds for one in ended if one.first_token_seconds is not None)
    tpot = sorted(one.seconds_per_token for one in ended if one.seconds_per_token is not None)
    cpu = seen.cpu_seconds
    return RunFigures(
        policy=policy,
        round_number=round_number,
        requests=len(answers),
        failed_requests=len(answers) - len(ended),
        first_error=next((answer.error for answer in answers if answer.error is not None), None),
        window_seconds=seen.window_seconds,
        output_tokens=output_tokens,
        cpu_seconds=cpu.engines,
        cpu_seconds_per_token=_per_token(cpu.engines, output_tokens),
        front_end_cpu_seconds=cpu.front_end,
        other_cores=(cpu.machine - cpu.engines - cpu.front_end) / seen.window_seconds,
        idle_cores=seen.idle_cores,
        energy_joules=energy_joules,
        account_joules=risen(seen.last.account_joules, seen.first.account_joules),
        request_joules=sum(answer.energy_joules or 0.0 for answer in answers),
        joules_per_token=_per_token(energy_joules, output_tokens),
        counter_faults=round(seen.last.counter_faults - seen.first.counter_faults),
        ttft_p50_seconds=percentile(ttft, 0.50),
        ttft_p99_seconds=percentile(ttft, 0.99),
        tpot_p50_seconds=percentile(tpot, 0.50),
        tpot_p99_seconds=percentile(tpot, 0.99),
        ttft_attainment_ratio=_share_within(ttft, targets.ttft_seconds, len(answers)),
        # An answer of a single token has no time between tokens, and so cannot have missed it.
        tpot_attainment_ratio=_share_within(tpot, targets.tpot_seconds, len(answers) - (len(ended) - len(tpot))),
        running_requests=_mean_running(seen),
        in_flight_requests=sum(answer.total_seconds for answer in answers) / seen.window_seconds,
        dispatches=_nested(risen(seen.last.dispatches, seen.first.dispatches)),
        worker_commands=_nested(risen(seen.last.worker_commands, seen.first.worker_commands)),
        latest_send_seconds=max((answer.late_seconds for answer in answers), default=0.0),
    )


def median_of(values: Iterable[float | None]) -> float | None:
    """The median, None where a value is missing: a run without one is no run to take a median over."""
    known = list(values)
    if not known or any(value is None or math.isnan(value) for value in known):
        return None
    return statistics.median(value for value in known if value is not None)


def _per_token(total: float, output_tokens: int) -> float | None:
    return total / output_tokens if output_tokens else None


def _share_within(seconds: list[float], target_seconds: float, requests: int) -> float:
    return sum(one <= target_seconds for one in seconds) / requests if requests else 1.0


def _mean_running(seen: Measurement) -> dict[str, float]:
    workers = sorted({worker for sample in seen.samples for worker in sample.running_requests})
    return {
        worker: statistics.fmean(sample.running_requests.get(worker, 0.0) for sample in seen.samples)
        for worker in workers
    }


def _nested(counts: dict[tuple[str, str], float]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (outer, inner), count in sorted(counts.items()):
        nested.setdefault(outer, {})[inner] = round(count)
    return nested
