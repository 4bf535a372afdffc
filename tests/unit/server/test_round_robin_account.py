"""The running total over workers that report, park and come back."""

import time
from typing import Any

import pytest

from scheduler.worker_model import WorkerModel
from server.roster import Member, Roster
from server.round_robin_account import RoundRobinAccount
from tests.unit.scheduler.known_engine import KnownEngine
from workers.remote_engine import RemoteEngine
from workers.supervisor import Supervisor, WorkerState

STRETCH_SECONDS = 5.0


def learned_model() -> WorkerModel:
    """An H100 that was watched at work for a while."""
    engine, model = KnownEngine(), WorkerModel("h100")
    model.begin(0.0, None)
    for second in range(10):
        model.observe(engine.work(1.0, 8), 8, float(second))
    assert model.is_energy_known
    return model


class Fleet:
    """Workers of one model whose reports the test makes up, and the account over them.

    Each has spent `joules_before` on decoding when it first reports.
    """

    def __init__(self, *models: WorkerModel, joules_before: float = 0.0) -> None:
        self.roster = Roster(lambda _request_id, _joules: None)
        for number in range(len(models)):
            engine = RemoteEngine(f"w{number}", "http://127.0.0.1:1")
            supervisor = Supervisor(engine, lambda _: None, lambda _: None, time.monotonic, 8)
            supervisor.state = WorkerState.READY
            self.roster.add(supervisor)
        self.learned = {f"w{number}": model for number, model in enumerate(models)}
        self.account = RoundRobinAccount(self.roster, lambda: self.learned)
        self.now_seconds = 0.0
        self.steps = [0] * len(models)
        self.joules = [joules_before] * len(models)
        for number in range(len(models)):
            self.member(number).energy.take(self._report(number, 0))
        self.account.look(0.0)

    def member(self, number: int) -> Member:
        return list(self.roster.members())[number]

    def pass_time(self, *steps: int, batch: int = 8, seconds: float = STRETCH_SECONDS, joules: float = 100.0) -> None:
        """Each worker makes so many more steps, and spends so much on decoding."""
        for number, more in enumerate(steps):
            if self.member(number).supervisor.state is WorkerState.READY:
                self.steps[number] += more
                self.joules[number] += joules
                self.member(number).energy.take(self._report(number, batch))
        self.now_seconds += seconds
        self.account.look(self.now_seconds)

    def _report(self, number: int, batch: int) -> dict[str, Any]:
        steps = self.steps[number]
        microjoules = round(self.joules[number] * 1e6)
        accounts = {"decode": microjoules, "loading": 7_000_000, "unattributed": 1_000_000}
        work = {"steps_total": steps, "step_seconds_total": 0.02 * steps, "decode_tokens_total": batch * steps}
        told = {"instance_id": "a", "model": "m", "source": "nvml", "measured": True}
        return told | {"accounts_microjoules": {"gpu": accounts}, "work": work | {"prefill_tokens_total": 0}}

    def total_joules(self) -> float | None:
        return dict(self.account.totals()).get("m")


def test_nothing_is_claimed_while_nothing_is_learned() -> None:
    fleet = Fleet(WorkerModel("h100"), WorkerModel("h100"))
    fleet.pass_time(100, 0)
    fleet.pass_time(100, 0)
    assert fleet.total_joules() is None


def test_with_one_worker_the_total_is_what_was_spent_on_requests_and_idling() -> None:
    fleet = Fleet(learned_model())
    for _ in range(3):
        fleet.pass_time(100)
    assert fleet.total_joules() == pytest.approx(300.0, rel=1e-3), "neither loading nor what nobody owns"


def test_what_attached_workers_spent_before_this_server_is_no_part_of_it() -> None:
    new, old = (Fleet(learned_model(), learned_model(), joules_before=joules) for joules in (0.0, 9000.0))
    for fleet in (new, old):
        fleet.pass_time(200, 0)
        fleet.pass_time(200, 0)
    assert new.total_joules() == pytest.approx(old.total_joules())


def test_a_worker_that_stays_idle_beside_a_full_one_would_have_taken_its_turns() -> None:
    fleet = Fleet(learned_model(), learned_model())
    for _ in range(3):
        fleet.pass_time(200, 0)
    spent_joules = 600.0
    total_joules = fleet.total_joules()
    assert total_joules is not None
    assert total_joules > spent_joules


def test_a_worker_that_was_never_observed_is_taken_to_be_like_the_others() -> None:
    known, unknown = Fleet(learned_model(), learned_model()), Fleet(learned_model(), WorkerModel("h100"))
    for fleet in (known, unknown):
        fleet.pass_time(200, 0)
        fleet.pass_time(200, 0)
    assert unknown.total_joules() == known.total_joules()


def test_a_start_that_round_robin_would_not_have_needed_is_what_it_would_have_saved() -> None:
    fleet = Fleet(learned_model(), learned_model())
    supervisor = fleet.member(1).supervisor
    fleet.pass_time(200, 0)
    supervisor.state, supervisor.is_parked = WorkerState.PARKED, True
    for _ in range(20):
        fleet.pass_time(200, 0, joules=0.0)
    parked_joules = fleet.total_joules()
    supervisor.state, supervisor.is_parked = WorkerState.READY, False
    fleet.pass_time(200, 0, joules=0.0)
    assert parked_joules is not None
    assert fleet.total_joules() == parked_joules, "a total never falls: it waits until the start is made up for"


def test_a_stretch_in_which_we_stood_still_is_left_out() -> None:
    fleet = Fleet(learned_model(), learned_model())
    fleet.pass_time(200, 0)
    before = fleet.total_joules()
    fleet.pass_time(200, 0, seconds=600.0, joules=0.0)
    assert fleet.total_joules() == before


def test_a_worker_that_is_lost_is_no_part_of_the_comparison() -> None:
    fleet = Fleet(learned_model(), learned_model())
    fleet.pass_time(200, 0)
    before = fleet.total_joules()
    fleet.member(1).supervisor.state = WorkerState.BACKING_OFF
    fleet.pass_time(200, 0)
    assert fleet.total_joules() == pytest.approx((before or 0.0) + 100.0, rel=1e-3)


def test_looks_that_come_too_soon_change_nothing() -> None:
    fleet = Fleet(learned_model(), learned_model())
    fleet.pass_time(200, 0)
    before = fleet.total_joules()
    fleet.pass_time(200, 0, seconds=1.0, joules=0.0)
    assert fleet.total_joules() == before
