"""What round-robin is estimated to have spent, by what another policy did, against what it spends in simulation."""

import random
from dataclasses import dataclass
from functools import cache

import pytest

from bench.simulation.driver import DriverSettings, SimulationDriver
from bench.simulation.energy_books import Account
from bench.simulation.engine import EngineState
from bench.simulation.fleet import Fleet
from bench.simulation.presets import engine_model
from bench.simulation.study import StudySettings, make_core
from bench.simulation.workload import PlannedRequest
from scheduler.core import Scheduler
from scheduler.events import WorkerReported, WorkReport
from scheduler.round_robin_estimate import WorkerSpan, round_robin_extra_joules

SETTINGS = StudySettings(engine_model("h100", "llama-3.1-8b"))
WORKERS = 4
STRETCH_SECONDS = 5.0
NOTHING = WorkReport(0, 0.0, 0, 0)


class WatchedFleet(Fleet):
    """Estimates as it goes, every few seconds, as the server does."""

    def __init__(self) -> None:
        super().__init__(SETTINGS.model, WORKERS)
        self.core: Scheduler | None = None
        self.extra_joules = 0.0
        self._looked_at_seconds = 0.0
        self._seen: dict[str, WorkReport | None] = dict.fromkeys(self.engines, NOTHING)

    def reports(self, now_seconds: float) -> list[WorkerReported]:
        told = super().reports(now_seconds)
        elapsed_seconds = now_seconds - self._looked_at_seconds
        if elapsed_seconds >= STRETCH_SECONDS:
            self._looked_at_seconds = now_seconds
            spans = [self._span(worker_id, now_seconds) for worker_id in self.engines]
            self.extra_joules += round_robin_extra_joules(spans, elapsed_seconds)
        return told

    def _span(self, worker_id: str, now_seconds: float) -> WorkerSpan:
        assert self.core is not None
        model, engine = self.core.worker_models()[worker_id], self.engines[worker_id]
        before = self._seen[worker_id]
        is_awake = engine.state is EngineState.AWAKE
        work = self._seen[worker_id] = engine.work_at(now_seconds) if is_awake else None
        if work is None:
            return WorkerSpan(model, is_awake=False)
        if before is None:
            self.extra_joules -= model.start_joules
        last = before or NOTHING
        return WorkerSpan(
            model,
            is_awake=True,
            steps=work.steps - last.steps,
            step_seconds=work.step_seconds - last.step_seconds,
            decode_tokens=work.decode_tokens - last.decode_tokens,
            prefill_tokens=work.prefill_tokens - last.prefill_tokens,
        )


@dataclass(frozen=True)
class Outcome:
    all_joules: float
    compared_joules: float
    extra_joules: float


def arrivals(rate: float) -> list[PlannedRequest]:
    """Three minutes of requests by chance."""
    chance = random.Random(1)
    at_seconds, planned = 0.0, []
    while at_seconds < 180.0:
        output_tokens = max(1, int(chance.expovariate(1 / 200)))
        planned.append(PlannedRequest(at_seconds, chance.randint(50, 1500), output_tokens, "default"))
        at_seconds += chance.expovariate(rate)
    return planned


@cache
def ran(policy: str, rate: float) -> Outcome:
    fleet = WatchedFleet()
    fleet.core = make_core(SETTINGS, policy)
    SimulationDriver(fleet.core, fleet, DriverSettings()).run(arrivals(rate))
    joules = {account: microjoules / 1e6 for account, microjoules in fleet.microjoules_by_account().items()}
    return Outcome(sum(joules.values()), joules[Account.ACTIVE] + joules[Account.IDLE], fleet.extra_joules)


@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_of_round_robin_itself_the_estimate_is_what_it_spends(rate: float) -> None:
    outcome = ran("round-robin", rate)
    assert abs(outcome.extra_joules) < 0.04 * outcome.compared_joules


@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_what_the_energy_policy_is_said_to_save_is_what_it_does_save(rate: float) -> None:
    ours, theirs = ran("energy", rate), ran("round-robin", rate)
    saved_joules = theirs.all_joules - ours.all_joules
    assert saved_joules > 0.2 * theirs.all_joules
    assert ours.extra_joules == pytest.approx(saved_joules, rel=0.15)
