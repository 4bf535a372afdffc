"""The accounts of one component: shares, prices and remainders, in whole microjoules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.ledger import ComponentLedger, StepPrice


def law_holds(ledger: ComponentLedger) -> bool:
    return sum(ledger.accounts.values()) + ledger.in_flight == ledger.assigned


@pytest.fixture
def ledger() -> ComponentLedger:
    return ComponentLedger()


def prefill(ledger: ComponentLedger, energy: int, tokens: int, sequences: int = 1) -> StepPrice:
    ledger.spend_step(prefill=energy, prefill_tokens=tokens, decode=0, decode_sequences=0)
    return ledger.complete_prefills(sequences, tokens)


def decode(ledger: ComponentLedger, energy: int, sequences: int) -> None:
    ledger.spend_step(prefill=0, prefill_tokens=0, decode=energy, decode_sequences=sequences)
    ledger.complete_prefills(0, 0)


def test_energy_of_no_request_goes_to_the_account_named(ledger: ComponentLedger) -> None:
    ledger.spend("idle", 70)
    ledger.spend("loading", 30)
    assert (ledger.accounts["idle"], ledger.accounts["loading"], ledger.assigned) == (70, 30, 100)


def test_a_sequence_pays_for_its_prompt_and_its_share_of_every_step(ledger: ComponentLedger) -> None:
    first = prefill(ledger, 1_000, 10, sequences=2)
    decode(ledger, 600, 2)
    decode(ledger, 400, 2)
    assert ledger.charge(first, 4) == (400, 500)
    decode(ledger, 300, 1)
    assert ledger.charge(first, 6) == (600, 800)
    assert ledger.in_flight == 0
    assert law_holds(ledger)


def test_a_late_comer_pays_from_its_own_first_token_on(ledger: ComponentLedger) -> None:
    early = prefill(ledger, 0, 1)
    decode(ledger, 500, 1)
    late = prefill(ledger, 0, 1)
    decode(ledger, 200, 2)
    assert ledger.charge(late, 1) == (0, 100)
    assert ledger.charge(early, 1) == (0, 600)


def test_what_does_not_divide_joins_the_next_step(ledger: ComponentLedger) -> None:
    first = prefill(ledger, 0, 3, sequences=3)
    decode(ledger, 100, 3)
    assert (ledger.in_flight_decode, ledger.decode_integral) == (100, 33)
    decode(ledger, 101, 3)
    assert [ledger.charge(first, 1)[1] for _ in range(3)] == [67, 67, 67]
    assert ledger.in_flight == 0


def test_prompt_tokens_are_paid_in_the_order_they_were_computed(ledger: ComponentLedger) -> None:
    """Ten tokens at 10 each, then a step of ten at 1 each that completes the first prompt with two of them."""
    ledger.spend_step(prefill=100, prefill_tokens=10, decode=0, decode_sequences=0)
    ledger.complete_prefills(0, 0)
    ledger.spend_step(prefill=10, prefill_tokens=10, decode=0, decode_sequences=0)
    first = ledger.complete_prefills(1, 12)
    assert first.prefill_per_token * 12 + ledger._prefill_carry == 102
    second = ledger.complete_prefills(1, 8)
    assert ledger.charge(first, 12)[0] == 96
    assert ledger.charge(second, 8)[0] == 8
    assert law_holds(ledger)


def test_energy_of_a_step_that_nobody_was_in_is_unattributed(ledger: ComponentLedger) -> None:
    ledger.spend_step(prefill=5, prefill_tokens=0, decode=7, decode_sequences=0)
    assert ledger.accounts["unattributed"] == 12


def test_the_step_after_a_stop_string_is_nobodys(ledger: ComponentLedger) -> None:
    """The engine advances the sequence once more after its caller was answered."""
    first = prefill(ledger, 0, 1, sequences=2)
    decode(ledger, 100, 2)
    assert ledger.charge(first, 1) == (0, 50)
    decode(ledger, 80, 2)
    assert ledger.accounts["unattributed"] == 40
    assert ledger.charge(first, 1) == (0, 90)


def test_abandoned_prefill_is_charged_or_disowned(ledger: ComponentLedger) -> None:
    ledger.spend_step(prefill=90, prefill_tokens=9, decode=0, decode_sequences=0)
    assert ledger.charge_prefill(ledger.abandon_prefills()) == 90
    ledger.spend_step(prefill=60, prefill_tokens=6, decode=0, decode_sequences=0)
    ledger.disown(ledger.abandon_prefills())
    assert (ledger.accounts["prefill"], ledger.accounts["unattributed"]) == (90, 60)
    assert ledger.in_flight == 0


def test_settling_leaves_nothing_in_flight(ledger: ComponentLedger) -> None:
    prefill(ledger, 100, 7, sequences=3)
    decode(ledger, 100, 3)
    ledger.settle()
    assert (ledger.in_flight, ledger.accounts["unattributed"]) == (0, 200)


def test_a_sequence_that_ends_after_settling_takes_nothing_from_others(ledger: ComponentLedger) -> None:
    stale = prefill(ledger, 100, 10)
    ledger.settle()
    assert ledger.charge(stale, 10) == (0, 0)
    first = prefill(ledger, 0, 1)
    decode(ledger, 50, 1)
    assert ledger.charge(first, 1) == (0, 50)


@given(st.data())
def test_no_microjoule_is_lost_or_made(data: st.DataObject) -> None:
    ledger = ComponentLedger()
    live: list[tuple[StepPrice, int]] = []
    accounts = dict(ledger.accounts)
    for _ in range(data.draw(st.integers(0, 40))):
        energy, tokens = data.draw(st.integers(0, 10**9)), data.draw(st.integers(0, 50))
        split = data.draw(st.integers(0, energy))
        ledger.spend_step(
            prefill=split, prefill_tokens=tokens, decode=energy - split, decode_sequences=data.draw(st.integers(0, 5))
        )
        prompts = data.draw(st.lists(st.integers(1, 30), max_size=3))
        price = ledger.complete_prefills(len(prompts), sum(prompts))
        live += [(price, prompt) for prompt in prompts]
        ending = data.draw(st.integers(0, 2 * len(live)))
        if ending < len(live):
            charged = ledger.charge(*live.pop(ending))
            assert min(charged) >= 0
        assert law_holds(ledger)
        assert min(ledger.in_flight_prefill, ledger.in_flight_decode) >= 0
        assert all(ledger.accounts[name] >= before for name, before in accounts.items())
        accounts = dict(ledger.accounts)
    ledger.settle()
    assert sum(ledger.accounts.values()) == ledger.assigned
