"""What an engine's sequences owe of one component: shares, prices and remainders, in whole microjoules."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.ledger import ComponentLedger
from metering.shares import PARTS, StepPrice
from metering.step import EndedSequence, EngineStep


@dataclass(frozen=True, slots=True)
class Live:
    """A sequence that got its first token at this price, when the clock said so."""

    price: StepPrice
    clock: int
    prompt_tokens: int


class Engine:
    """Feeds one engine's shares, keeping its clock."""

    def __init__(self) -> None:
        self.ledger = ComponentLedger()
        self.shares = self.ledger.engines[0]
        self.clock = 0

    def step(
        self, *parts: int, prompts: Sequence[int] = (), tokens: int | None = None, heads: int = 1, decode: int = 0
    ) -> list[Live]:
        """One step: its energy by part, the prompts it completed, and how many sequences decoded."""
        self.clock += 1 if decode else 0
        computed = sum(prompts) if tokens is None else tokens
        step = EngineStep(0.0, None, computed, decode, len(prompts), sum(prompts), None, 1)
        self.ledger.hand_out(0, sum(parts))
        assert self.shares.release() == sum(parts)
        self.shares.spend_step(parts, step, heads, self.clock)
        price = self.shares.complete_prefills(step, self.clock)
        return [Live(price, self.clock, prompt) for prompt in prompts]

    def prefill(self, energy: int, *prompts: int) -> list[Live]:
        return self.step(0, energy, 0, 0, 0, prompts=prompts)

    def decode(self, each: int, sequences: int, context: int = 0) -> None:
        self.step(0, 0, 0, each, context, decode=sequences)

    def end(self, live: Live, ratio: float = 1.0, preemptions: int = 0) -> tuple[int, int]:
        ended = EndedSequence(live.prompt_tokens, live.prompt_tokens, 1, 0.0, preemptions=preemptions)
        return self.shares.charge(live.price, live.clock, ended, ratio)

    @property
    def accounts(self) -> dict[str, int]:
        return self.ledger.accounts

    def law_holds(self) -> bool:
        return sum(self.accounts.values()) + self.ledger.in_flight == self.ledger.assigned


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_energy_of_no_request_goes_to_the_account_named(engine: Engine) -> None:
    engine.ledger.spend("idle", 70)
    engine.ledger.spend("loading", 30)
    assert (engine.accounts["idle"], engine.accounts["loading"], engine.ledger.assigned) == (70, 30, 100)


def test_energy_of_a_running_step_is_in_flight(engine: Engine) -> None:
    engine.ledger.hand_out(0, 50)
    assert (engine.ledger.in_flight, engine.ledger.assigned) == (50, 50)
    assert engine.law_holds()


def test_a_sequence_pays_for_its_prompt_and_its_share_of_every_step(engine: Engine) -> None:
    short, long = engine.prefill(1_000, 4, 6)
    engine.decode(600, 2)
    engine.decode(400, 2)
    assert engine.end(short) == (400, 500)
    engine.decode(300, 1)
    assert engine.end(long) == (600, 800)
    assert engine.ledger.in_flight == 0
    assert engine.law_holds()


def test_the_fixed_cost_of_prompts_is_paid_by_head(engine: Engine) -> None:
    short, long = engine.step(100, 1_000, 0, 0, 0, prompts=(4, 6), heads=2)
    assert engine.end(short) == (450, 0)
    assert engine.end(long) == (650, 0)


def test_a_prompt_in_chunks_pays_the_fixed_cost_of_each_of_its_steps(engine: Engine) -> None:
    """Two prompts share the first step; one is finished in it, the other in the next."""
    (first,) = engine.step(100, 100, 0, 0, 0, prompts=(4,), tokens=10, heads=2)
    assert engine.end(first)[0] == 50 + 40
    (second,) = engine.step(70, 30, 0, 0, 0, prompts=(9,), tokens=3)
    assert engine.end(second)[0] == 50 + 60 + 70 + 30


def test_context_is_paid_by_its_length_as_it_grows(engine: Engine) -> None:
    """Prompts of 9 and 29 tokens: contexts of 10 and 30 in the first step, of 11 and 31 in the next."""
    short, long = engine.prefill(0, 9, 29)
    engine.decode(0, 2, context=40_000)
    engine.decode(0, 2, context=42_000)
    assert engine.end(short)[1] == pytest.approx(10_000 + 11_000, abs=1)
    assert engine.end(long)[1] == pytest.approx(30_000 + 31_000, abs=1)
    assert engine.ledger.in_flight == 0


def test_a_late_comer_pays_from_its_own_first_token_on(engine: Engine) -> None:
    (early,) = engine.prefill(0, 1)
    engine.decode(500, 1)
    (late,) = engine.prefill(0, 1)
    engine.decode(200, 2)
    assert engine.end(late) == (0, 100)
    assert engine.end(early) == (0, 600)


def test_what_does_not_divide_is_lost_to_nobody(engine: Engine) -> None:
    three = engine.prefill(0, 1, 1, 1)
    engine.decode(100, 3)
    engine.decode(101, 3)
    assert sum(engine.end(one)[1] for one in three) == 201
    assert engine.ledger.in_flight == 0


def test_prompt_tokens_are_paid_in_the_order_they_were_computed(engine: Engine) -> None:
    """Ten tokens at 10 each, then ten at 1 each, two of which complete the first prompt."""
    engine.step(0, 100, 0, 0, 0, tokens=10)
    (first,) = engine.step(0, 10, 0, 0, 0, prompts=(12,), tokens=10)
    (second,) = engine.step(0, 0, 0, 0, 0, prompts=(8,), tokens=0)
    assert engine.end(first)[0] == pytest.approx(102, abs=1)
    assert engine.end(second)[0] == pytest.approx(8, abs=1)
    assert engine.law_holds()


def test_energy_of_a_step_that_nobody_was_in_is_unattributed(engine: Engine) -> None:
    engine.step(0, 5, 0, 7, 0, tokens=0)
    assert engine.accounts["unattributed"] == 12


def test_the_step_after_a_stop_string_is_nobodys(engine: Engine) -> None:
    """The engine advances the sequence once more after its caller was answered."""
    one, other = engine.prefill(0, 1, 1)
    engine.decode(100, 2)
    assert engine.end(one) == (0, 50)
    engine.decode(80, 2)
    assert engine.accounts["unattributed"] == 40
    assert engine.end(other) == (0, 90)


def test_a_preempted_sequence_pays_for_the_steps_it_was_in_and_for_being_computed_again(engine: Engine) -> None:
    stays, preempted = engine.prefill(0, 5, 5)
    engine.decode(100, 2)
    engine.decode(60, 1)  # without the one that lost its place
    engine.clock += 1
    step = EngineStep(0.0, None, 0, 2, 0, 0, None, 2, recomputed_tokens=6, preemptions=1)
    engine.ledger.hand_out(0, 300)
    engine.shares.release()
    engine.shares.spend_step((0, 0, 200, 100, 0), step, 0, engine.clock)
    prefill, decode = engine.end(preempted, ratio=100 / 160, preemptions=1)
    assert prefill == 200
    assert decode == pytest.approx(100, abs=1)
    assert engine.end(stays)[1] == pytest.approx(160, abs=1)
    assert engine.law_holds()


def test_abandoned_prefill_is_charged_or_disowned(engine: Engine) -> None:
    engine.step(0, 90, 0, 0, 0, tokens=9)
    assert engine.shares.charge_prefill(engine.shares.abandon_prefills()) == 90
    engine.step(0, 60, 0, 0, 0, tokens=6)
    engine.shares.disown(engine.shares.abandon_prefills())
    assert (engine.accounts["prefill"], engine.accounts["unattributed"]) == (90, 60)
    assert engine.ledger.in_flight == 0


def test_settling_leaves_nothing_in_flight(engine: Engine) -> None:
    engine.prefill(100, 2, 2, 3)
    engine.decode(90, 3, context=10)
    engine.ledger.hand_out(0, 5)
    engine.shares.settle()
    assert (engine.ledger.in_flight, engine.accounts["unattributed"]) == (0, 205)


def test_a_sequence_that_ends_after_settling_takes_nothing_from_others(engine: Engine) -> None:
    (stale,) = engine.prefill(100, 10)
    engine.shares.settle()
    assert engine.end(stale) == (0, 0)
    (first,) = engine.prefill(0, 1)
    engine.decode(50, 1)
    assert engine.end(first) == (0, 50)


def test_what_is_owed_stays_exact_when_the_running_sums_have_outgrown_their_columns(engine: Engine) -> None:
    engine.shares._each = 2**90
    engine.shares._context = 2**70
    engine.shares._context_growth = 2**75
    (one,) = engine.prefill(0, 1_000)
    engine.decode(70, 1, context=30)
    wide = one.price
    narrow = StepPrice(*(value % 2**64 for value in wide.as_tuple()))
    assert engine.end(Live(narrow, one.clock, 1_000)) == (0, 100)
    assert engine.accounts["unattributed"] == 0
    assert PARTS * 9_000_000_000 * 1_000_000 < 2**63


@given(st.data())
def test_no_microjoule_is_lost_or_made(data: st.DataObject) -> None:
    engine = Engine()
    live: list[Live] = []
    accounts = dict(engine.accounts)
    energies = st.integers(0, 10**9)
    for _ in range(data.draw(st.integers(0, 40))):
        prompts = data.draw(st.lists(st.integers(1, 30), max_size=3))
        live += engine.step(
            *(data.draw(energies) for _ in range(5)),
            prompts=prompts,
            tokens=data.draw(st.integers(0, 50)),
            heads=data.draw(st.integers(1, 4)),
            decode=data.draw(st.integers(0, 5)),
        )
        ending = data.draw(st.integers(0, 2 * len(live)))
        if ending < len(live):
            one = live.pop(ending)
            charged = engine.end(one, data.draw(st.sampled_from([1.0, 0.5])), data.draw(st.integers(0, 1)))
            assert min(charged) >= 0
        assert engine.law_holds()
        assert min(engine.ledger.in_flight_prefill, engine.ledger.in_flight_decode) >= 0
        assert all(engine.accounts[name] >= before for name, before in accounts.items())
        accounts = dict(engine.accounts)
    engine.shares.settle()
    assert sum(engine.accounts.values()) == engine.ledger.assigned
