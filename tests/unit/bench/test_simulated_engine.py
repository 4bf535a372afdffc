"""The simulated engine against one that takes every pass singly, and against the physics it must keep to."""

import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from bench.simulation.energy_books import Account, EnergyBooks
from bench.simulation.engine import Engine, EngineState, Sequence
from bench.simulation.engine_model import EngineModel
from bench.simulation.errors import SimulationError
from tests.linear_engine_model import linear_model

MODEL = linear_model()
Plan = tuple[float, int, int]
"""Arrival in seconds, prompt tokens, output tokens."""


@dataclass
class PassByPass:
    """The same engine, written without regard to speed: every pass visits every sequence."""

    model: EngineModel
    now: float = 0.0
    active_joules: float = 0.0
    idle_seconds: float = 0.0
    decoding: list[Sequence] = field(default_factory=list)
    done: dict[int, int] = field(default_factory=dict)  # tokens given so far
    prefilling: deque[Sequence] = field(default_factory=deque)
    waiting: deque[Sequence] = field(default_factory=deque)

    def serve(self, plans: list[Plan]) -> list[Sequence]:
        sequences = [Sequence(number, prompt, output) for number, (_, prompt, output) in enumerate(plans)]
        coming = deque(zip((at for at, _, _ in plans), sequences, strict=True))
        while coming or self.decoding or self.prefilling or self.waiting:
            if not (self.decoding or self.prefilling or self.waiting) and coming[0][0] > self.now:
                self.idle_seconds += coming[0][0] - self.now
                self.now = coming[0][0]
            while coming and coming[0][0] <= self.now:
                self.waiting.append(coming.popleft()[1])
            self.take_a_pass()
        return sequences

    def take_a_pass(self) -> None:
        held = [*self.decoding, *self.prefilling]
        while (
            self.waiting
            and len(held) < self.model.max_sequences
            and sum(one.final_tokens for one in [*held, self.waiting[0]]) <= self.model.kv_capacity_tokens
        ):
            held.append(self.waiting[0])
            self.prefilling.append(self.waiting.popleft())
        budget = self.model.max_batched_tokens - len(self.decoding)
        chunks, pairs = [], 0.0
        for one in self.prefilling:
            tokens = min(budget, one.prompt_tokens - one.prefilled_tokens)
            if tokens > 0:
                chunks.append((one, tokens))
                pairs += sum(one.prefilled_tokens + place for place in range(1, tokens + 1))
                budget -= tokens
        context = sum(one.prompt_tokens + self.done[one.number] for one in self.decoding)
        work = (len(self.decoding), context, sum(tokens for _, tokens in chunks), pairs)
        seconds = self.model.step_seconds(*work)
        self.now += seconds
        self.active_joules += seconds * self.model.step_watts(*work)
        for one in self.decoding:
            self.done[one.number] += 1
        for one, tokens in chunks:
            one.prefilled_tokens += tokens
            if one.prefilled_tokens == one.prompt_tokens:
                one.first_token_at_seconds = self.now
                self.done[one.number] = 1
                self.prefilling.remove(one)
                self.decoding.append(one)
        for one in list(self.decoding):
            if self.done[one.number] == one.output_tokens:
                one.ended_at_seconds = self.now
                self.decoding.remove(one)


def serve(engine: Engine, plans: list[Plan]) -> list[Sequence]:
    """Drive the engine as the simulator does."""
    sequences = [Sequence(number, prompt, output) for number, (_, prompt, output) in enumerate(plans)]
    for (at_seconds, _, _), sequence in zip(plans, sequences, strict=True):
        while (due := engine.next_event_at_seconds) is not None and due <= at_seconds:
            engine.advance()
        engine.submit(sequence, at_seconds)
    while engine.next_event_at_seconds is not None:
        engine.advance()
    return sequences


def plans_of(seed: int, count: int = 120, gap_seconds: float = 0.05) -> list[Plan]:
    rng = random.Random(seed)
    at_seconds, plans = 0.0, []
    for _ in range(count):
        at_seconds += rng.expovariate(1 / gap_seconds)
        plans.append((at_seconds, rng.choice([1, 30, 200, 256, 700, 3000]), rng.choice([1, 2, 5, 40, 150])))
    return plans


@pytest.mark.parametrize("gap_seconds", [0.02, 0.3, 3.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jumps_over_passes_come_to_what_single_passes_come_to(seed: int, gap_seconds: float) -> None:
    plans = plans_of(seed, gap_seconds=gap_seconds)
    engine, slow = Engine(MODEL), PassByPass(MODEL)
    ours, theirs = serve(engine, plans), slow.serve(plans)
    for name in ("first_token_at_seconds", "ended_at_seconds"):
        times = [getattr(one, name) for one in ours]
        assert times == pytest.approx([getattr(one, name) for one in theirs], rel=1e-9)
    books = engine.books.microjoules_by_account
    assert books[Account.ACTIVE] / 1e6 == pytest.approx(slow.active_joules, rel=1e-9)
    assert books[Account.IDLE] / 1e6 == pytest.approx(slow.idle_seconds * MODEL.idle_watts, abs=1e-3)


def test_a_jump_along_a_curve_stays_near_it() -> None:
    curved = linear_model(
        limit_watts=700.0, seconds=replace(MODEL.seconds, launch=6e-3, per_sequence=1e-5, per_token=1e-5)
    )
    plans = plans_of(4, gap_seconds=0.5)
    engine, slow = Engine(curved), PassByPass(curved)
    ours, theirs = serve(engine, plans), slow.serve(plans)
    assert [one.ended_at_seconds for one in ours] == pytest.approx([one.ended_at_seconds for one in theirs], rel=1e-4)
    assert engine.books.microjoules_by_account[Account.ACTIVE] / 1e6 == pytest.approx(slow.active_joules, rel=1e-4)


def test_accounts_make_up_all_energy_and_no_passing_instant_falls_outside() -> None:
    engine = Engine(MODEL)
    engine.submit(Sequence(0, 300, 100), 1.0)
    seen: list[tuple[float, float]] = []
    while (due := engine.next_event_at_seconds) is not None:
        before = 0.0 if not seen else seen[-1][0]
        seen += [(at, engine.joules_at(at)) for at in (before + (due - before) * part / 7 for part in range(1, 8))]
        engine.advance()
    assert all(earlier[1] <= later[1] for earlier, later in pairwise(seen))
    last_at_seconds = seen[-1][0]
    engine.park(last_at_seconds + 10)
    engine.start(last_at_seconds + 30)
    engine.advance()
    engine.settle(last_at_seconds + 30 + MODEL.start_seconds + 5)
    books = engine.books.microjoules_by_account
    assert sum(books.values()) == engine.books.microjoules
    assert books[Account.IDLE] == pytest.approx(100.0 * (1 + 10 + 5) * 1e6, abs=2)
    assert books[Account.PARKED] == pytest.approx(50.0 * 20 * 1e6, abs=2)
    assert books[Account.LOADING] == pytest.approx(150.0 * 20 * 1e6, abs=2)
    assert books[Account.ACTIVE] == pytest.approx((seen[-1][1] - 100.0) * 1e6, abs=2)
    now_seconds = last_at_seconds + 30 + MODEL.start_seconds + 5
    assert engine.awake_seconds_at(now_seconds) == pytest.approx(now_seconds - 20)


def test_many_small_postings_lose_nothing_to_rounding() -> None:
    books = EnergyBooks()
    for number in range(100_000):
        books.post(Account.ACTIVE if number % 2 else Account.IDLE, 0.4e-6)
    assert books.microjoules == sum(books.microjoules_by_account.values()) == pytest.approx(40_000, abs=1)


def test_a_prompt_is_computed_in_chunks_beside_what_decodes() -> None:
    engine = Engine(MODEL)
    engine.submit(Sequence(0, 10, 50), 0.0)
    engine.advance()
    start_seconds = engine.next_event_at_seconds
    assert start_seconds is not None
    engine.submit(Sequence(1, 3 * 255, 1), 1e-3 + MODEL.step_seconds(0, 0, 10, 55))
    engine.advance()  # the pass in progress ends first
    before = engine.work_at(engine.next_event_at_seconds or 0.0).prefill_tokens
    ends = []
    for _ in range(3):
        ends += engine.advance()
    work = engine.work_at(engine.next_event_at_seconds or 0.0)
    assert [one.number for one in ends] == [1]
    assert before == 10 + 255, "one sequence decodes, so 255 of 256 tokens are left for the prompt"
    assert work.prefill_tokens == 10 + 3 * 255


def test_no_more_context_than_the_cache_holds_and_nobody_waits_for_ever() -> None:
    engine = Engine(linear_model(kv_capacity_tokens=1000, max_sequences=64))
    sequences = [Sequence(number, 300, 100) for number in range(9)]
    for sequence in sequences:
        engine.submit(sequence, 0.0)
    most = 0
    while engine.next_event_at_seconds is not None:
        most = max(most, engine.running_requests)
        engine.advance()
    assert most == 2
    assert all(sequence.ended_at_seconds is not None for sequence in sequences)
    assert engine.running_requests == engine.waiting_requests == 0


def test_no_more_sequences_than_allowed_run_at_once() -> None:
    engine = Engine(MODEL)
    for number in range(20):
        engine.submit(Sequence(number, 5, 30), 0.0)
    most = 0
    while engine.next_event_at_seconds is not None:
        engine.advance()
        most = max(most, engine.running_requests)
    assert most == MODEL.max_sequences


def test_an_arrival_ends_a_jump_with_the_pass_in_progress() -> None:
    engine = Engine(MODEL)
    engine.submit(Sequence(0, 100, 200), 0.0)
    engine.advance()
    far_seconds = engine.next_event_at_seconds
    assert far_seconds is not None
    now_seconds = far_seconds / 2
    plan_number = engine.plan_number
    engine.submit(Sequence(1, 100, 10), now_seconds)
    cut_seconds = engine.next_event_at_seconds
    assert cut_seconds is not None
    assert engine.plan_number != plan_number
    assert now_seconds <= cut_seconds < now_seconds + 0.01


def test_a_meter_inside_tells_totals_since_the_start_of_the_process() -> None:
    engine = Engine(MODEL)
    engine.submit(Sequence(0, 100, 21), 0.0)
    while engine.next_event_at_seconds is not None:
        last_at_seconds = engine.next_event_at_seconds
        engine.advance()
    work = engine.work_at(last_at_seconds)
    assert (work.steps, work.decode_tokens, work.prefill_tokens) == (21, 20, 100)
    assert work.step_seconds == pytest.approx(last_at_seconds)
    assert work.loading_joules == MODEL.start_seconds * MODEL.start_watts
    assert work.energy_joules == pytest.approx(engine.joules_at(last_at_seconds) + work.loading_joules)
    engine.park(last_at_seconds)
    engine.start(last_at_seconds + 1000)
    engine.advance()
    again = engine.work_at(last_at_seconds + 1000 + MODEL.start_seconds)
    assert (again.steps, again.decode_tokens, again.prefill_tokens, again.step_seconds) == (0, 0, 0, 0.0)
    assert again.energy_joules == pytest.approx(MODEL.start_seconds * MODEL.start_watts)
    assert again.loading_joules == pytest.approx(again.energy_joules)


def test_work_inside_a_jump_is_told_in_whole_passes() -> None:
    engine = Engine(MODEL)
    engine.submit(Sequence(0, 100, 201), 0.0)
    engine.advance()
    end_seconds = engine.next_event_at_seconds or 0.0
    told = [engine.work_at(end_seconds * part / 10) for part in range(2, 11)]
    assert [work.decode_tokens for work in told] == [work.steps - 1 for work in told]
    assert all(earlier.steps < later.steps for earlier, later in pairwise(told))
    assert told[-1].steps == 201


def test_an_engine_that_is_not_awake_takes_nothing() -> None:
    engine = Engine(MODEL)
    engine.park(1.0)
    with pytest.raises(SimulationError):
        engine.submit(Sequence(0, 10, 10), 2.0)
    with pytest.raises(SimulationError):
        engine.park(2.0)
    engine.start(3.0)
    assert engine.state is EngineState.STARTING
    with pytest.raises(SimulationError):
        engine.submit(Sequence(0, 10, 10), 4.0)
    with pytest.raises(SimulationError):
        engine.start(4.0)


def test_an_engine_with_work_is_not_parked() -> None:
    engine = Engine(MODEL)
    engine.submit(Sequence(0, 10, 10), 0.0)
    with pytest.raises(SimulationError):
        engine.park(0.001)
