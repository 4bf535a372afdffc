"""The figures of a run: energy, latency, what became of the requests, and their course over time."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Final, Self

from bench.simulation.energy_books import Account
from bench.simulation.request_log import SERVED, RequestLog
from bench.simulation.study import PolicyRun
from scheduler.targets import LatencyTargets

# The promise is about the 99th percentile: so many requests keep to each target.
PROMISED_RATIO: Final = 0.99


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the values there are, by nearest rank; all None where there is none."""

    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self:
        known = sorted(value for value in values if value is not None)
        return cls(*(known[ceil(ratio * len(known)) - 1] if known else None for ratio in (0.5, 0.9, 0.99)))


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Some of the requests. A request that was not served is no part of the percentiles and has missed both targets.

    `targets_met` says that 99 % kept to the one target and 99 % to the other; it and the ratio are None where there is
    no request.
    """

    requests: int
    served: int
    output_tokens: int
    ttft_seconds: Percentiles
    tpot_seconds: Percentiles
    slo_attainment_ratio: float | None
    targets_met: bool | None

    @classmethod
    def of(cls, logs: Sequence[RequestLog], targets: LatencyTargets) -> Self:
        count = len(logs)
        served = [log for log in logs if log.outcome == SERVED]
        enough = PROMISED_RATIO * count
        return cls(
            count,
            len(served),
            sum(log.sequence.output_tokens for log in served),
            Percentiles.of(log.ttft_seconds for log in served),
            Percentiles.of(log.tpot_seconds for log in served),
            sum(log.meets(targets) for log in logs) / count if count else None,
            sum(log.meets_ttft(targets) for log in logs) >= enough
            and sum(log.meets_tpot(targets) for log in logs) >= enough
            if count
            else None,
        )


@dataclass(frozen=True, slots=True)
class FlexFigures:
    """Requests that could wait. `deadlines_missed` were dispatched after their longest wait, or never."""

    figures: LatencyFigures
    wait_seconds: Percentiles
    deadlines_missed: int

    @classmethod
    def of(cls, logs: Sequence[RequestLog], targets: LatencyTargets, longest_wait_seconds: float) -> Self:
        # A wake-up at the very deadline still keeps it; rounding must not say otherwise.
        latest_seconds = longest_wait_seconds + 1e-3
        missed = sum(log.wait_seconds is None or log.wait_seconds > latest_seconds for log in logs)
        return cls(LatencyFigures.of(logs, targets), Percentiles.of(log.wait_seconds for log in logs), missed)


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of time up to `at_seconds`: mean power and workers awake, and requests as they are at its end.

    `slo_attainment_ratio` is of the requests not flex that arrived in it, None if none did.
    """

    at_seconds: float
    power_watts: float
    awake_workers: float
    running_requests: int
    queued_requests: int
    slo_attainment_ratio: float | None


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Everything a run is judged by.

    `latency` is of all requests but flex. Energy runs from the first arrival to the end of the last request.
    """

    policy: str
    targets: LatencyTargets
    engine: str
    hardware: str
    workers: int
    gpus: int
    is_measured: bool
    duration_seconds: float
    microjoules: dict[Account, int]
    awake_gpu_seconds: float
    prompt_tokens: int
    output_tokens: int
    outcomes: dict[str, int]
    latency: LatencyFigures
    flex: FlexFigures
    tiers: dict[str, LatencyFigures]
    commands: dict[str, int]
    dispatch_reasons: dict[str, int]
    notices: dict[str, int]
    moments: tuple[Moment, ...]

    @property
    def energy_joules(self) -> float:
        return sum(self.microjoules.values()) / 1e6

    @property
    def joules_per_output_token(self) -> float | None:
        return self.energy_joules / self.output_tokens if self.output_tokens else None

    @property
    def mean_power_watts(self) -> float | None:
        return self.energy_joules / self.duration_seconds if self.duration_seconds else None

    @property
    def peak_power_watts(self) -> float | None:
        """The highest mean over one of the `moments`."""
        return max((moment.power_watts for moment in self.moments), default=None)

    @property
    def mean_awake_workers(self) -> float | None:
        gpus_per_worker = self.gpus / self.workers
        return self.awake_gpu_seconds / gpus_per_worker / self.duration_seconds if self.duration_seconds else None

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        latency, flex = asdict(self.latency), self.flex
        return {
            "policy": self.policy,
            "model": self.engine,
            "gpu": self.hardware,
            "gpus": self.gpus,
            "workers": self.workers,
            "gpu_model_measured": self.is_measured,
            "targets": asdict(self.targets),
            "duration_seconds": self.duration_seconds,
            "energy_joules": self.energy_joules,
            "energy_joules_by_account": {account.value: uj / 1e6 for account, uj in self.microjoules.items()},
            "mean_power_watts": self.mean_power_watts,
            "peak_power_watts": self.peak_power_watts,
            "joules_per_output_token": self.joules_per_output_token,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "requests": sum(self.outcomes.values()),
            "requests_by_outcome": self.outcomes,
            **{key: latency[key] for key in ("slo_attainment_ratio", "targets_met", "ttft_seconds", "tpot_seconds")},
            "awake_gpu_seconds": self.awake_gpu_seconds,
            "mean_awake_workers": self.mean_awake_workers,
            "flex": asdict(flex.figures)
            | {"wait_seconds": asdict(flex.wait_seconds), "deadlines_missed": flex.deadlines_missed},
            "tiers": {tier: asdict(figures) for tier, figures in self.tiers.items()},
            "commands": self.commands,
            "dispatch_reasons": self.dispatch_reasons,
            "notices": self.notices,
            "timeline": [asdict(moment) for moment in self.moments],
        }


def figures_of(ran: PolicyRun) -> RunFigures:
    """What a finished run comes to."""
    settings, run, fleet = ran.settings, ran.run, ran.fleet
    targets, model = settings.targets, settings.model
    urgent = [log for log in run.requests if not log.is_flex]
    flex = [log for log in run.requests if log.is_flex]
    served = [log.sequence for log in run.requests if log.outcome == SERVED]
    tiers = sorted({log.planned.tier for log in run.requests})
    return RunFigures(
        policy=ran.policy,
        targets=targets,
        engine=model.name,
        hardware=model.hardware,
        workers=len(fleet.engines),
        gpus=len(fleet.engines) * model.gpus,
        is_measured=model.measured,
        duration_seconds=run.ended_at_seconds,
        microjoules=fleet.microjoules_by_account(),
        awake_gpu_seconds=run.samples[-1].awake_seconds * model.gpus,
        prompt_tokens=sum(sequence.prompt_tokens for sequence in served),
        output_tokens=sum(sequence.output_tokens for sequence in served),
        outcomes=_sorted(Counter(log.outcome or "unended" for log in run.requests)),
        latency=LatencyFigures.of(urgent, targets),
        flex=FlexFigures.of(flex, targets, settings.limits.flex_wait_seconds),
        tiers={
            tier: LatencyFigures.of([log for log in run.requests if log.planned.tier == tier], targets)
            for tier in tiers
        },
        commands=_sorted(run.commands),
        dispatch_reasons=_sorted(run.dispatch_reasons),
        notices=_sorted(run.notices),
        moments=_moments(ran, urgent),
    )


def _moments(ran: PolicyRun, urgent: Sequence[RequestLog]) -> tuple[Moment, ...]:
    samples = ran.run.samples
    ends = [sample.at_seconds for sample in samples[1:]]
    if not ends:  # all were refused as they came, and no time passed
        return ()
    arrived, met = [0] * len(ends), [0] * len(ends)
    for log in urgent:
        place = min(bisect_right(ends, log.planned.arrives_at_seconds), len(ends) - 1)
        arrived[place] += 1
        met[place] += log.meets(ran.settings.targets)
    return tuple(
        Moment(
            after.at_seconds,
            (after.energy_joules - before.energy_joules) / (after.at_seconds - before.at_seconds),
            (after.awake_seconds - before.awake_seconds) / (after.at_seconds - before.at_seconds),
            after.running_requests,
            after.queued_requests,
            met[place] / arrived[place] if arrived[place] else None,
        )
        for place, (before, after) in enumerate(pairwise(samples))
        if after.at_seconds > before.at_seconds
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
