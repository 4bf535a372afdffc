"""The simulator's driver and the asyncio driver give the same commands for the same events."""

import random
from dataclasses import replace

import pytest

from bench.simulation.driver import DriverSettings, SimulationDriver
from bench.simulation.fleet import Fleet
from bench.simulation.presets import engine_model
from bench.simulation.study import StudySettings, make_core
from bench.simulation.workload import PlannedRequest
from scheduler.commands import Command, Dispatch, Park, Start
from scheduler.core import Scheduler
from scheduler.events import Event
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from tests.simulation.test_driver_equals_core import DriverRun, History
from tests.simulation.virtual_time_loop import run_in_virtual_time

# Short starts and waits, so that a minute of traffic sees workers parked, started again and flex requests due.
MODEL = replace(engine_model("h100", "llama-3.1-8b"), start_seconds=3.1, start_watts=300.0)
SETTINGS = StudySettings(MODEL, limits=SchedulerLimits(flex_wait_seconds=7.3), report_seconds=0.97)


class Recorded(Scheduler):
    """A core that keeps what it is told and what it answers."""

    history: History

    def handle(self, event: Event, now_seconds: float) -> list[Command]:
        self.history.events.append((now_seconds, event))
        return self.keep(super().handle(event, now_seconds))

    def wake(self, now_seconds: float) -> list[Command]:
        return self.keep(super().wake(now_seconds))

    def keep(self, commands: list[Command]) -> list[Command]:
        self.history.commands += commands
        return commands


def traffic(seed: int) -> list[PlannedRequest]:
    """Two minutes: busy, nearly silent, busy again."""
    chance = random.Random(seed)
    at_seconds, planned = 0.0, []
    while at_seconds < 120:
        rate = 40.0 if at_seconds < 20 or at_seconds > 90 else 0.3
        at_seconds += chance.expovariate(rate)
        tier = chance.choice(["priority", "default", "default", "flex"])
        planned.append(PlannedRequest(at_seconds, chance.randint(50, 4000), chance.randint(1, 400), tier))
    return planned


def simulated(policy: str, seed: int) -> History:
    targets = SETTINGS.targets
    core = Recorded(POLICIES[policy](targets), SETTINGS.limits, frozenset({MODEL.name}), targets)
    core.history = History()
    SimulationDriver(core, Fleet(MODEL, 3), DriverSettings(SETTINGS.report_seconds)).run(traffic(seed))
    return core.history


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(2))
def test_the_asyncio_driver_gives_the_commands_of_the_simulation(policy: str, seed: int) -> None:
    history = simulated(policy, seed)
    served = run_in_virtual_time(DriverRun(make_core(SETTINGS, policy), history).run())
    # What comes after the simulation's end, such as parking workers that go on idling, only the other one lives to see.
    assert served[: len(history.commands)] == history.commands
    assert not [command for command in served[len(history.commands) :] if isinstance(command, Dispatch)]


def test_the_simulated_traffic_parks_and_starts_workers() -> None:
    assert {type(command) for command in simulated("energy", 0).commands} >= {Dispatch, Park, Start}
