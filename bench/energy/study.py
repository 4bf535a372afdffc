"""The whole benchmark: rounds in which each policy gets a fresh server and the same requests, in turn."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.children import PROJECT_FOLDER, ChildFailedError
from bench.energy.arrivals import plan
from bench.energy.figures import RunFigures, figures_of, median_of
from bench.energy.measurement import measure, warm_up
from bench.energy.quiet import wait_for_quiet
from bench.energy.server_under_test import ServerSettings, server_under_test
from scheduler.targets import LatencyTargets

FETCHED_MODEL: Final = "smollm2"
_FETCH_SECONDS: Final = 600.0
_MEDIANS: Final = (
    "cpu_seconds_per_token",
    "joules_per_token",
    "ttft_p50_seconds",
    "ttft_p99_seconds",
    "tpot_p50_seconds",
    "tpot_p99_seconds",
    "ttft_attainment_ratio",
    "tpot_attainment_ratio",
)


@dataclass(frozen=True, slots=True)
class StudySettings:
    """One benchmark. Each request is given up `request_seconds` after it was sent.

    A run is disturbed where all else on the machine, the load client included, kept more than `most_other_cores` busy.
    It is made again on the same server up to `repeats` times; before each attempt a quiet machine is waited for, at
    most `quiet_wait_seconds`.
    """

    server: ServerSettings = field(default_factory=ServerSettings)
    policies: tuple[str, ...] = ("round-robin", "energy")
    rounds: int = 3
    requests: int = 100
    requests_per_second: float = 1.6
    most_output_tokens: int = 64
    seed: int = 1
    request_seconds: float = 120.0
    most_other_cores: float = 0.4
    repeats: int = 3
    quiet_wait_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The runs that count, in the order in which they were made, and the disturbed ones that were made again."""

    settings: StudySettings
    runs: tuple[RunFigures, ...]
    discarded: tuple[RunFigures, ...] = ()

    def of(self, policy: str) -> tuple[RunFigures, ...]:
        return tuple(run for run in self.runs if run.policy == policy)

    def is_disturbed(self, run: RunFigures) -> bool:
        """Whether too much else ran beside it."""
        return run.other_cores > self.settings.most_other_cores

    def median(self, policy: str, figure: str) -> float | None:
        """The median over the rounds of one of the figures of a run."""
        return median_of(getattr(run, figure) for run in self.of(policy))

    def ratio(self, policy: str, over: str, figure: str) -> float | None:
        """A policy's median over another's."""
        one, other = self.median(policy, figure), self.median(over, figure)
        return one / other if one is not None and other else None

    def round_ratios(self, policy: str, over: str, figure: str) -> tuple[float | None, ...]:
        """The same for each round by itself."""
        pairs = zip(self.of(policy), self.of(over), strict=True)
        figures = [(getattr(one, figure), getattr(other, figure)) for one, other in pairs]
        return tuple(one / other if one is not None and other else None for one, other in figures)

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        base, *others = self.settings.policies
        return {
            "settings": asdict(self.settings),
            "cores": os.cpu_count(),
            "runs": [asdict(run) for run in self.runs],
            "discarded_runs": [asdict(run) for run in self.discarded],
            "disturbed_runs": sum(map(self.is_disturbed, self.runs)),
            "medians": {
                policy: {name: self.median(policy, name) for name in _MEDIANS} for policy in self.settings.policies
            },
            f"ratios_to_{base}": {
                policy: {
                    name: {
                        "of_medians": self.ratio(policy, base, name),
                        "by_round": self.round_ratios(policy, base, name),
                    }
                    for name in ("cpu_seconds_per_token", "joules_per_token")
                }
                for policy in others
            },
        }


def run(settings: StudySettings, say: Callable[[str], None]) -> StudyResult:
    """Makes every run. Its servers end before it returns or raises; `say` is told how far it has come.

    Every other round begins with the other end of the list, so that a drift of the machine favours no policy.

    Raises:
        ChildFailedError: a server did not start or does not answer.
    """
    _prepare(settings.server.model)
    runs: list[RunFigures] = []
    discarded: list[RunFigures] = []
    for number in range(1, settings.rounds + 1):
        for policy in settings.policies if number % 2 else reversed(settings.policies):
            say(f"round {number} of {settings.rounds}: {policy}")
            *disturbed, counted = _run(settings, policy, number, say)
            discarded += disturbed
            runs.append(counted)
    return StudyResult(settings, tuple(runs), tuple(discarded))


def until_undisturbed(attempt: Callable[[], RunFigures], most_other_cores: float, repeats: int) -> list[RunFigures]:
    """The attempts at one run, the one that counts last: the first undisturbed, or else the least disturbed.

    Which one counts is decided by what else ran on the machine, never by what came out.
    """
    attempts: list[RunFigures] = []
    for _ in range(1 + repeats):
        attempts.append(attempt())
        if attempts[-1].other_cores <= most_other_cores:
            return attempts
    return sorted(attempts, key=lambda one: one.other_cores, reverse=True)


def _run(settings: StudySettings, policy: str, number: int, say: Callable[[str], None]) -> list[RunFigures]:
    """One run on a server of its own, as often as it takes; the attempt that counts is the last."""
    planned = plan(settings.requests, settings.requests_per_second, settings.most_output_tokens, settings.seed)
    targets = LatencyTargets(settings.server.slo_ttft_seconds, settings.server.slo_tpot_seconds)
    with server_under_test(settings.server, policy) as server:
        asyncio.run(warm_up(server, settings.request_seconds))

        def attempt() -> RunFigures:
            wait_for_quiet(settings.most_other_cores, settings.quiet_wait_seconds)
            seen = asyncio.run(measure(server, planned, settings.request_seconds))
            made = figures_of(policy, number, seen, targets)
            cpu_seconds = made.cpu_seconds_per_token or 0.0
            say(f"  {1000 * cpu_seconds:.1f} CPU ms a token, all else kept {made.other_cores:.2f} cores busy")
            return made

        return until_undisturbed(attempt, settings.most_other_cores, settings.repeats)


def _prepare(model: str) -> None:
    """Fetches and converts the default model, once, so that no run's start-up waits for it."""
    if model != FETCHED_MODEL:
        return
    command = [sys.executable, "-m", "server", "model", "fetch", model]
    try:
        subprocess.run(
            command,
            cwd=PROJECT_FOLDER,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=_FETCH_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise ChildFailedError(f"the model {model} could not be fetched: {error}") from error
