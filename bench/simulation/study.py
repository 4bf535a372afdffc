"""One fleet under one policy, and what is asked of it; the same arguments give the same result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.simulation.driver import DriverRun, DriverSettings, SimulationDriver
from bench.simulation.engine_model import EngineModel
from bench.simulation.errors import SimulationSettingError
from bench.simulation.fleet import Fleet
from bench.simulation.request_log import RequestLog
from bench.simulation.workload import PlannedRequest
from scheduler.core import Scheduler
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from scheduler.targets import LatencyTargets


@dataclass(frozen=True, slots=True)
class StudySettings:
    """What every run of a study shares."""

    model: EngineModel
    targets: LatencyTargets = field(default_factory=LatencyTargets)
    limits: SchedulerLimits = field(default_factory=SchedulerLimits)
    report_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0.01 <= self.report_seconds <= 3600:
            raise SimulationSettingError(
                f"--report-seconds is {self.report_seconds}, expected seconds from 0.01 to 3600"
            )
        model = self.model
        if not 0 < model.max_sequences <= model.max_batched_tokens:
            raise SimulationSettingError(
                f"--max-sequences is {model.max_sequences}, expected at least 1 and at most --max-batched-tokens, "
                f"{model.max_batched_tokens}: a pass has a token for every sequence"
            )


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """What a fleet did under a policy."""

    settings: StudySettings
    policy: str
    fleet: Fleet
    run: DriverRun


def run_policy(
    settings: StudySettings,
    policy: str,
    workers: int,
    requests: Sequence[PlannedRequest],
    gives_up: Callable[[RequestLog], bool] | None = None,
) -> PolicyRun:
    """Serve the requests with so many engines under a policy of `scheduler.policy.POLICIES`."""
    fleet = Fleet(settings.model, workers)
    core = make_core(settings, policy)
    driver = SimulationDriver(core, fleet, DriverSettings(settings.report_seconds, gives_up))
    return PolicyRun(settings, policy, fleet, driver.run(requests))


def make_core(settings: StudySettings, policy: str) -> Scheduler:
    """A fresh scheduler for the model, under a policy by its name."""
    models = frozenset({settings.model.name})
    return Scheduler(POLICIES[policy](settings.targets), settings.limits, models, settings.targets)
