"""Steps are priced anew once the counter has told what it stood at when they ended."""

import pytest

from metering.counter import CounterInfo, EnergyReading
from metering.fault import CounterFault
from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.track import CounterTrack

PROMPT_TOKENS = 10


class Late:
    """A counter that tells of a change of power only when asked, and an engine that steps every 100 ms before that."""

    def __init__(self) -> None:
        self.track = CounterTrack(
            CounterInfo(
                "fake:0",
                "gpu",
                "replay",
                measured=False,
                update_period_seconds=0.1,
                uncertainty_ratio=None,
                description="100 W, then more or less",
            )
        )
        self.now_seconds = 0.0
        self.joules = 0.0
        self.tell()
        self.meter = EnergyMeter([self.track])
        self.meter.engine_ready(0.0)
        for _ in range(10):  # a known power to extrapolate by
            self.pass_time(0.1, 100)
            self.tell()
        self.meter.advance(self.now_seconds)

    def pass_time(self, seconds: float, watts: float) -> None:
        self.now_seconds = round(self.now_seconds + seconds, 6)
        self.joules += seconds * watts

    def tell(self) -> None:
        self.track.observe(EnergyReading(self.now_seconds, round(self.joules * 1e6)))

    def step(self, watts: float, *, first: int = 0, decode: int = 0, left: int = 1) -> None:
        self.pass_time(0.1, watts)
        self.meter.step(
            EngineStep(
                ended_at_seconds=self.now_seconds,
                duration_seconds=0.1,
                prefill_tokens=PROMPT_TOKENS * first,
                decode_sequences=decode,
                first_tokens=first,
                first_token_prompt_tokens=PROMPT_TOKENS * first,
                inter_token_seconds=0.1 if decode else None,
                unfinished_sequences=left,
                prefill_sequences=first,
            )
        )

    def end(self, name: str, steps: int) -> tuple[float, float]:
        """The request's prefill and decode, in joules."""
        ended = EndedSequence(PROMPT_TOKENS, PROMPT_TOKENS, steps + 1, steps * 0.1)
        self.meter.sequence_ended(name, ended)
        energy = self.meter.request_ended(name, self.now_seconds)
        return energy.prefill_microjoules / 1e6, energy.decode_microjoules / 1e6

    def law_holds(self) -> bool:
        return all(sum(one.accounts.values()) + one.in_flight == one.assigned for one in self.meter.ledgers)


@pytest.mark.parametrize("watts", [40, 100, 300])
def test_a_prompt_and_its_tokens_cost_what_the_counter_tells_later(watts: float) -> None:
    late = Late()
    late.meter.request_started("a", late.now_seconds)
    late.step(watts, first=1)
    late.step(watts, decode=1)
    late.tell()
    late.step(watts, decode=1)
    late.tell()
    late.step(watts, decode=1)
    assert late.law_holds()
    prefill, decode = late.end("a", 3)
    assert prefill == pytest.approx(watts * 0.1, rel=1e-6)
    assert decode == pytest.approx(watts * 0.3, rel=0.35)  # the last step is still extrapolated
    assert prefill + decode == pytest.approx(watts * 0.4, rel=0.25)


def test_who_came_later_does_not_pay_for_what_is_corrected_before() -> None:
    late = Late()
    for name in ("early", "late"):
        late.meter.request_started(name, late.now_seconds)
    late.step(300, first=1)
    late.step(300, decode=1)
    late.step(300, first=1, decode=1)
    late.tell()
    late.step(300, decode=2)
    late.tell()
    late.step(300, decode=2, left=0)
    late.tell()
    early, newcomer = late.end("early", 4), late.end("late", 2)
    assert newcomer[1] == pytest.approx(30, rel=0.1)
    assert sum(early) + newcomer[0] == pytest.approx(300 * 0.5 - newcomer[1], rel=0.05)
    assert late.law_holds()


def test_what_one_who_has_left_paid_too_little_is_carried_forward_and_not_lost() -> None:
    late = Late()
    for name in ("a", "b"):
        late.meter.request_started(name, late.now_seconds)
    late.step(300, first=2, left=2)
    late.step(300, decode=2)
    a = late.end("a", 1)
    assert sum(a) == pytest.approx(10, rel=0.05)  # at the 100 W that were known
    late.tell()
    for _ in range(5):
        late.step(300, decode=1)
        late.tell()
    late.step(300, decode=1, left=0)
    late.tell()
    b = late.end("b", 7)
    late.meter.engine_idle(late.now_seconds)
    late.meter.advance(late.now_seconds)
    assert late.law_holds()
    assert late.meter.assigned_microjoules() == late.meter.confirmed_microjoules()
    idle = late.meter.ledgers[0].accounts["idle"] / 1e6 - 100
    assert sum(a) + sum(b) + idle == pytest.approx(300 * 0.8, rel=1e-6)
    assert idle == pytest.approx(0, abs=1)


def test_a_fault_leaves_the_steps_before_it_as_they_were_booked() -> None:
    late = Late()
    late.meter.request_started("a", late.now_seconds)
    late.step(100, first=1)
    late.step(100, decode=1)
    late.track.interrupt(CounterFault.SAMPLER)
    late.joules += 5
    late.tell()
    late.pass_time(0.1, 100)
    late.tell()
    late.step(100, decode=1)
    late.tell()
    late.step(100, decode=1, left=0)
    prefill, _ = late.end("a", 3)
    assert prefill == pytest.approx(10, rel=1e-6)
    assert late.law_holds()
    assert late.meter.recent[-1].unknown_reason is not None
