"""The scheduler's core over simulated engines: determinism, completeness, parking, and the figures of a run."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest

from bench.simulation.driver import DriverSettings, SimulationDriver
from bench.simulation.energy_books import Account
from bench.simulation.engine import EngineState
from bench.simulation.errors import SimulationError
from bench.simulation.figures import Percentiles, RunFigures, figures_of
from bench.simulation.fleet import Fleet
from bench.simulation.report import format_runs
from bench.simulation.sizing import smallest, smallest_fleet
from bench.simulation.study import PolicyRun, StudySettings, make_core, run_policy
from bench.simulation.workload import PlannedRequest
from scheduler.commands import Command, Dispatch, Park, Reject, Start
from scheduler.core import Scheduler
from scheduler.events import Event, RequestArrived, WorkerParked, WorkerReady, WorkerReported
from scheduler.least_loaded import LeastLoaded
from scheduler.limits import SchedulerLimits
from scheduler.policy import POLICIES
from tests.linear_engine_model import linear_model

MODEL = linear_model()
Told = list[tuple[float, Command]]


class OneParks(Scheduler):
    """Parks `worker-1` as soon as it may after 20 s, and starts it again at 60 s."""

    def __init__(self) -> None:
        super().__init__(LeastLoaded(), SchedulerLimits(), frozenset({MODEL.name}))
        self.events: list[tuple[float, Event]] = []
        self._is_parked = False

    def handle(self, event: Event, now_seconds: float) -> list[Command]:
        self.events.append((now_seconds, event))
        commands = super().handle(event, now_seconds)
        if isinstance(event, WorkerReported):
            idle = event.worker_id == "worker-1" and not event.running_requests
            if idle and 20 <= now_seconds < 60 and not self._is_parked:
                self._is_parked = True
                return [*commands, Park("worker-1", "idle")]
            if self._is_parked and now_seconds >= 60:
                self._is_parked = False
                return [*commands, Start("worker-1", "asked to")]
        return commands


def requests_of(seed: int, count: int = 300, gap_seconds: float = 0.1) -> tuple[PlannedRequest, ...]:
    rng = random.Random(seed)
    at_seconds, requests = 0.0, []
    for _ in range(count):
        tier = rng.choice(["default", "default", "flex"])
        requests.append(PlannedRequest(at_seconds, rng.randint(1, 900), rng.randint(1, 120), tier))
        at_seconds += rng.expovariate(1 / gap_seconds)
    return tuple(requests)


def told_of(policy: str, requests: tuple[PlannedRequest, ...], limits: SchedulerLimits) -> tuple[Told, PolicyRun]:
    told: Told = []
    fleet = Fleet(MODEL, 3)
    settings = StudySettings(MODEL, limits=limits)
    core = make_core(settings, policy)
    driver = SimulationDriver(core, fleet, DriverSettings(), lambda at, command: told.append((at, command)))
    return told, PolicyRun(settings, policy, fleet, driver.run(requests))


def ran(policy: str, requests: tuple[PlannedRequest, ...], workers: int = 3) -> RunFigures:
    return figures_of(run_policy(StudySettings(MODEL), policy, workers, requests))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_requests_give_the_same_commands_at_the_same_instants(policy: str) -> None:
    first, again = (told_of(policy, requests_of(1), SchedulerLimits())[0] for _ in range(2))
    assert first == again
    assert first != told_of(policy, requests_of(2), SchedulerLimits())[0]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("gap_seconds", [0.003, 0.1, 4.0])
def test_every_request_ends_exactly_once(policy: str, gap_seconds: float) -> None:
    requests = requests_of(3, gap_seconds=gap_seconds)
    limits = SchedulerLimits(max_queued_requests=20, queue_timeout_seconds=2.0)
    told, ended = told_of(policy, requests, limits)
    logs = ended.run.requests
    assert [log.planned for log in logs] == list(requests)
    answers = Counter(command.request_id for _, command in told if isinstance(command, Dispatch | Reject))
    assert set(answers.values()) == {1}
    assert len(answers) == len(requests)
    outcomes = Counter(log.outcome for log in logs)
    assert None not in outcomes
    if gap_seconds == 0.003:
        assert outcomes["queue_full"]
    for log in logs:
        assert (log.ttft_seconds is not None) == (log.outcome == "served")
        if log.ttft_seconds is not None and log.wait_seconds is not None:
            assert log.ttft_seconds > log.wait_seconds >= 0
    assert all(not engine.running_requests and not engine.waiting_requests for engine in ended.fleet.engines.values())


def test_energy_is_the_same_by_account_by_engine_and_over_time() -> None:
    _, ended = told_of("least-loaded", requests_of(4), SchedulerLimits())
    figures = figures_of(ended)
    by_engine = sum(engine.books.microjoules for engine in ended.fleet.engines.values())
    assert sum(figures.microjoules.values()) == by_engine
    over_time = sum(
        moment.power_watts * (moment.at_seconds - before)
        for before, moment in zip([0.0, *(one.at_seconds for one in figures.moments)], figures.moments, strict=False)
    )
    assert over_time == pytest.approx(figures.energy_joules, rel=1e-9)
    assert figures.awake_gpu_seconds == pytest.approx(3 * figures.duration_seconds)
    assert figures.duration_seconds == max(log.sequence.ended_at_seconds or 0.0 for log in ended.run.requests)


def test_a_parked_engine_runs_nothing_and_draws_parked_watts() -> None:
    core, fleet = OneParks(), Fleet(MODEL, 2)
    told: Told = []
    driver = SimulationDriver(core, fleet, DriverSettings(), lambda at, command: told.append((at, command)))
    driver.run(tuple(PlannedRequest(number * 2.0, 50, 20, "default") for number in range(60)))
    (parked_at_seconds,) = (at for at, command in told if isinstance(command, Park))
    (started_at_seconds,) = (at for at, command in told if isinstance(command, Start))
    sent_at_seconds = [at for at, command in told if isinstance(command, Dispatch) and command.worker_id == "worker-1"]
    ready_at_seconds = started_at_seconds + MODEL.start_seconds
    assert not any(parked_at_seconds <= at < ready_at_seconds for at in sent_at_seconds)
    books = fleet.engines["worker-1"].books.microjoules_by_account
    parked_seconds = started_at_seconds - parked_at_seconds
    assert books[Account.PARKED] / 1e6 == pytest.approx(parked_seconds * MODEL.parked_watts)
    assert books[Account.LOADING] / 1e6 == pytest.approx(MODEL.start_seconds * MODEL.start_watts)
    of_worker = [(at, event) for at, event in core.events if getattr(event, "worker_id", "") == "worker-1"]
    assert [at for at, event in of_worker if isinstance(event, WorkerParked)] == [parked_at_seconds]
    ready = [at for at, event in of_worker if isinstance(event, WorkerReady)]
    assert ready == pytest.approx([0.0, ready_at_seconds])
    reported = [at for at, event in of_worker if isinstance(event, WorkerReported)]
    assert not any(parked_at_seconds < at < ready_at_seconds for at in reported)
    assert fleet.engines["worker-1"].state is EngineState.AWAKE
    ended_at_seconds = core.events[-1][0]
    awake_seconds = fleet.sample(ended_at_seconds, 0).awake_seconds
    assert awake_seconds == pytest.approx(2 * ended_at_seconds - parked_seconds)


def test_reports_are_totals_and_idle_engines_speak_seldom() -> None:
    core, fleet = OneParks(), Fleet(MODEL, 1)
    requests = [PlannedRequest(0.0, 50, 900, "default"), PlannedRequest(60.0, 50, 2, "default")]
    SimulationDriver(core, fleet, DriverSettings(report_seconds=0.5)).run(requests)
    reports = [(at, event) for at, event in core.events if isinstance(event, WorkerReported)]
    works = [event.work for _, event in reports if event.work is not None]
    for earlier, later in pairwise(works):
        assert later.steps >= earlier.steps
        assert later.decode_tokens >= earlier.decode_tokens
        assert (later.energy_joules or 0) > (earlier.energy_joules or 0)
    busy = [at for at, event in reports if event.running_requests and at < 60]
    idle = [at for at, event in reports if not event.running_requests and at < 60][1:]
    assert {round(later - earlier, 6) for earlier, later in pairwise(busy)} == {0.5}
    assert {round(later - earlier, 6) for earlier, later in pairwise(idle)} == {5.0}


def test_lengths_are_left_for_the_scheduler_to_guess_until_a_request_ends() -> None:
    core = OneParks()
    SimulationDriver(core, Fleet(MODEL, 1), DriverSettings()).run([PlannedRequest(0.0, 50, 20, "flex")])
    (arrival,) = (event for _, event in core.events if isinstance(event, RequestArrived))
    assert (arrival.prompt_bytes, arrival.prompt_tokens, arrival.max_output_tokens, arrival.tier) == (
        200, None, None, "flex",
    )  # fmt: skip


def test_a_request_that_no_engine_can_hold_is_refused_and_missed() -> None:
    figures = ran("least-loaded", (PlannedRequest(0.0, 30_000, 5, "default"), PlannedRequest(1.0, 10, 5, "default")))
    assert figures.outcomes == {"served": 1, "too_long": 1}
    assert figures.latency.slo_attainment_ratio == 0.5
    assert figures.latency.targets_met is False


def test_requests_that_would_wait_for_ever_are_an_error_and_no_endless_loop() -> None:
    class Forgets(OneParks):
        def handle(self, event: Event, now_seconds: float) -> list[Command]:
            return [] if isinstance(event, RequestArrived) else super().handle(event, now_seconds)

    with pytest.raises(SimulationError, match="1 requests wait"):
        SimulationDriver(Forgets(), Fleet(MODEL, 1), DriverSettings()).run([PlannedRequest(0.0, 5, 5, "default")])


def test_flex_figures_stand_apart() -> None:
    requests = requests_of(5)
    figures = ran("round-robin", requests)
    flex = sum(one.tier == "flex" for one in requests)
    assert figures.flex.figures.requests == flex
    assert figures.latency.requests == len(requests) - flex
    assert {tier: part.requests for tier, part in figures.tiers.items()} == {
        "default": len(requests) - flex,
        "flex": flex,
    }


def test_one_object_holds_what_programs_read() -> None:
    printed = json.loads(json.dumps(ran("least-loaded", requests_of(6)).as_json(), allow_nan=False))
    for key in ("energy_joules", "output_tokens", "joules_per_output_token", "slo_attainment_ratio"):
        assert printed[key] > 0
    for key in ("ttft_seconds", "tpot_seconds"):
        assert 0 < printed[key]["p50"] <= printed[key]["p99"]
    assert printed["awake_gpu_seconds"] > 0
    assert sum(printed["energy_joules_by_account"].values()) == pytest.approx(printed["energy_joules"])
    assert sum(printed["requests_by_outcome"].values()) == printed["requests"] == 300


def test_nothing_measured_is_none() -> None:
    figures = ran("least-loaded", (PlannedRequest(0.0, 30_000, 5, "flex"),))
    printed = figures.as_json()
    assert (printed["joules_per_output_token"], printed["slo_attainment_ratio"], printed["targets_met"]) == (None,) * 3
    assert printed["ttft_seconds"] == {"p50": None, "p90": None, "p99": None}
    assert "–" in format_runs([figures])


def test_percentiles_are_by_nearest_rank() -> None:
    assert Percentiles.of([float(number) for number in range(1, 101)]) == Percentiles(50.0, 90.0, 99.0)
    assert Percentiles.of([3.0, None]) == Percentiles(3.0, 3.0, 3.0)


def test_the_table_compares_the_first_with_the_others() -> None:
    requests = requests_of(7)
    table = format_runs([ran("round-robin", requests), ran("least-loaded", requests)])
    assert "round-robin spends" in table.splitlines()[-1]
    assert "least-loaded" in table.splitlines()[-1]


@pytest.mark.parametrize("least", [1, 2, 3, 7, 8, 9, 100])
def test_bisection_finds_the_least_that_meets(least: int) -> None:
    asked: list[int] = []

    def meets(number: int) -> bool:
        asked.append(number)
        return number >= least

    assert smallest(meets, 100) == least
    assert len(asked) == len(set(asked)) <= 15
    assert smallest(lambda number: number >= 101, 100) is None


def test_the_smallest_fleet_keeps_to_the_targets_and_one_engine_fewer_does_not() -> None:
    requests = requests_of(8, count=600, gap_seconds=0.02)
    settings = StudySettings(MODEL)
    workers = smallest_fleet(settings, "round-robin", requests)
    assert workers > 1
    assert ran("round-robin", requests, workers).latency.targets_met
    assert not ran("round-robin", requests, workers - 1).latency.targets_met
