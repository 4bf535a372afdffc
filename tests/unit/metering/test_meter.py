"""The meter's edges: requests cut off, sequences nobody asked for, and what it keeps."""

import pytest

from metering.counter import CounterInfo, EnergyReading
from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.track import CounterTrack

WATTS = 100
STEP_SECONDS = 0.1
STEP_MICROJOULES = 10_000_000


class Bench:
    """A meter over an exact 100 W counter, and an engine that steps every 100 ms."""

    def __init__(self) -> None:
        info = CounterInfo(
            "fake:0",
            "gpu",
            "replay",
            measured=False,
            update_period_seconds=0.1,
            uncertainty_ratio=None,
            description="100 W",
        )
        self.track = CounterTrack(info)
        self.now_seconds = 0.0
        self.observe()
        self.meter = EnergyMeter([self.track])
        self.meter.engine_ready(0.0)

    def observe(self) -> None:
        self.track.observe(EnergyReading(self.now_seconds, round(self.now_seconds * WATTS * 1_000_000)))

    def step(self, *, prefill: int = 0, first: int = 0, prompt: int = 0, decode: int = 0, left: int = 1) -> None:
        self.now_seconds = round(self.now_seconds + STEP_SECONDS, 6)
        self.observe()
        self.meter.step(
            EngineStep(
                ended_at_seconds=self.now_seconds,
                duration_seconds=STEP_SECONDS,
                prefill_tokens=prefill,
                decode_sequences=decode,
                first_tokens=first,
                first_token_prompt_tokens=prompt,
                inter_token_seconds=STEP_SECONDS if decode else None,
                unfinished_sequences=left,
            )
        )

    def start(self, *names: str) -> None:
        for name in names:
            self.meter.request_started(name, self.now_seconds)

    def account(self, name: str) -> int:
        return self.meter.ledgers[0].accounts[name]


def ended(prompt: int = 10, steps: int = 0, *, prefill_done: bool = True) -> EndedSequence:
    return EndedSequence(prompt, prompt, steps + 1, steps * STEP_SECONDS, prefill_done)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_meter_needs_a_counter() -> None:
    with pytest.raises(ValueError, match="at least one counter"):
        EnergyMeter([])


def test_loading_idle_and_a_request_each_have_their_own(bench: Bench) -> None:
    bench.now_seconds = 1.0
    bench.observe()
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    bench.step(decode=1, left=0)
    bench.meter.sequence_ended("a", ended(steps=1))
    bench.meter.engine_idle(bench.now_seconds)
    energy = bench.meter.request_ended("a", bench.now_seconds)
    assert (energy.prefill_microjoules, energy.decode_microjoules) == (STEP_MICROJOULES, STEP_MICROJOULES)
    assert energy.device_microjoules == 2 * STEP_MICROJOULES
    assert (bench.account("idle"), bench.account("unattributed")) == (100_000_000, 0)


def test_loading_ends_when_the_engine_is_ready() -> None:
    bench = Bench()
    bench.meter = EnergyMeter([bench.track])
    bench.now_seconds = 2.0
    bench.observe()
    bench.meter.engine_ready(2.0)
    bench.now_seconds = 3.0
    bench.observe()
    bench.meter.advance(3.0)
    assert (bench.account("loading"), bench.account("idle")) == (200_000_000, 100_000_000)


def test_a_request_cut_off_pays_for_the_step_that_was_running(bench: Bench) -> None:
    bench.start("a", "b")
    bench.step(prefill=20, first=2, prompt=20)
    bench.step(decode=2)
    bench.meter.sequence_cut_off("a", ended(steps=1))
    bench.meter.request_aborted("a", bench.now_seconds)
    bench.step(decode=2)
    bench.step(decode=1)
    (energy,) = bench.meter.recent
    assert energy.outcome == "aborted"
    assert energy.prefill_microjoules == pytest.approx(STEP_MICROJOULES // 2, abs=1)
    assert energy.decode_microjoules == pytest.approx(STEP_MICROJOULES, abs=1)
    bench.step(decode=1, left=0)
    bench.meter.sequence_ended("b", ended(steps=4))
    rest = bench.meter.request_ended("b", bench.now_seconds).decode_microjoules
    assert energy.decode_microjoules + rest == 4 * STEP_MICROJOULES


def test_a_request_cut_off_exactly_as_it_finishes_pays_once(bench: Bench) -> None:
    bench.start("a", "b")
    bench.step(prefill=20, first=2, prompt=20)
    bench.step(decode=2)
    bench.meter.sequence_cut_off("a", ended(steps=1))
    bench.meter.request_aborted("a", bench.now_seconds)
    bench.step(decode=2)
    bench.meter.sequence_ended("a", ended(steps=2))
    bench.step(decode=1, left=0)
    bench.meter.sequence_ended("b", ended(steps=3))
    bench.meter.engine_idle(bench.now_seconds)
    (aborted,) = bench.meter.recent
    assert aborted.decode_microjoules == pytest.approx(STEP_MICROJOULES, abs=1)
    rest = bench.meter.request_ended("b", bench.now_seconds).decode_microjoules
    assert aborted.decode_microjoules + rest == 3 * STEP_MICROJOULES
    assert bench.account("unattributed") == 0
    assert not bench.meter._unclaimed


def test_one_sequence_of_several_may_finish_while_its_request_is_cut_off(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=20, first=2, prompt=20)
    bench.step(decode=2)
    for _ in range(2):
        bench.meter.sequence_cut_off("a", ended(steps=1))
    bench.meter.request_aborted("a", bench.now_seconds)
    bench.step(decode=2)
    bench.meter.sequence_ended("a", ended(steps=2))
    bench.meter.engine_idle(bench.now_seconds)
    (aborted,) = bench.meter.recent
    assert (aborted.microjoules, aborted.output_tokens) == (3 * STEP_MICROJOULES, 5)


def test_the_id_of_a_request_that_is_still_to_be_charged_is_not_free(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    bench.meter.sequence_cut_off("a", ended())
    bench.meter.request_aborted("a", bench.now_seconds)
    assert (bench.meter.is_open("a"), bench.meter.knows("a")) == (False, True)
    bench.meter.engine_idle(bench.now_seconds)
    assert not bench.meter.knows("a")


def test_the_oldest_of_those_cut_off_before_their_first_token_was_being_computed(bench: Bench) -> None:
    bench.start("old")
    bench.step(prefill=10)
    bench.start("queued")
    for name in ("queued", "old"):
        bench.meter.sequence_cut_off(name, ended(prefill_done=False))
        bench.meter.request_aborted(name, bench.now_seconds)
    bench.meter.engine_idle(bench.now_seconds)
    assert {one.request_id: one.prefill_microjoules for one in bench.meter.recent} == {
        "old": STEP_MICROJOULES,
        "queued": 0,
    }


def test_a_prompt_cut_off_is_not_waited_for_for_ever(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=10)
    bench.meter.sequence_cut_off("a", ended(prefill_done=False))
    bench.meter.request_aborted("a", bench.now_seconds)
    for _ in range(110):
        bench.step(prefill=10, first=1, prompt=10, decode=1)
    assert [one.request_id for one in bench.meter.recent] == ["a"]


def test_energy_of_a_client_that_nobody_charged_is_settled_when_the_engine_is_empty(bench: Bench) -> None:
    """Its abort went unnoticed; another request is still open in the server."""
    bench.step(prefill=10, first=1, prompt=10)
    bench.step(decode=1)
    bench.start("open")
    bench.meter.engine_idle(bench.now_seconds)
    assert bench.meter.ledgers[0].in_flight == 0
    assert bench.account("unattributed") == 2 * STEP_MICROJOULES


def test_a_refused_request_leaves_no_trace(bench: Bench) -> None:
    bench.start("a")
    bench.meter.request_refused("a")
    assert not bench.meter.recent
    assert bench.meter.totals.aborted == 0
    with pytest.raises(KeyError):
        bench.meter.request_ended("a", 0.0)


@pytest.mark.parametrize(("engine_id", "claimed"), [("resp_1_0", True), ("resp_1_12", True), ("resp_12_0", False)])
def test_sequences_under_another_name_are_claimed_by_exactly_that_name(
    bench: Bench, engine_id: str, *, claimed: bool
) -> None:
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10, left=0)
    bench.meter.sequence_ended(engine_id, ended())
    assert bench.meter.has_ended_sequences("a", also_known_as="resp_1") is claimed
    energy = bench.meter.request_ended("a", bench.now_seconds, also_known_as="resp_1")
    assert energy.microjoules == (STEP_MICROJOULES if claimed else 0)


def test_what_nobody_claims_is_bounded(bench: Bench) -> None:
    bench.step(prefill=10, first=1, prompt=10)
    for number in range(3_000):
        bench.meter.sequence_ended(f"stranger-{number}", ended())
    assert len(bench.meter._unclaimed) == 1024


def test_steps_are_forgotten_under_a_load_that_never_pauses(bench: Bench) -> None:
    bench.step(prefill=10, first=1, prompt=10)
    for number in range(10_000):
        if number % 10 == 0:
            bench.start(f"r{number}")
        bench.step(decode=1)
        if number % 10 == 9:
            bench.meter.request_ended(f"r{number - 9}", bench.now_seconds)
    assert len(bench.meter._books[0]._history._at) < 8_300


def test_chunks_that_give_no_token_do_not_shift_the_clock(bench: Bench) -> None:
    """A token's distance to the one before spans the steps between them, which only computed a long prompt."""
    bench.start("a", "b")
    bench.step(prefill=10, first=1, prompt=10)
    for _ in range(3):
        bench.step(prefill=10)
    bench.now_seconds = round(bench.now_seconds + STEP_SECONDS, 6)
    bench.observe()
    bench.meter.step(EngineStep(bench.now_seconds, STEP_SECONDS, 0, 1, 0, 0, 4 * STEP_SECONDS, 1))
    bench.meter.sequence_ended("a", ended(steps=4))
    energy = bench.meter.request_ended("a", bench.now_seconds)
    assert (energy.prefill_microjoules, energy.decode_microjoules) == (STEP_MICROJOULES, STEP_MICROJOULES)


def test_power_is_known_only_while_every_counter_answers(bench: Bench) -> None:
    bench.now_seconds = 1.0
    bench.observe()
    assert bench.meter.power_watts(1.0) == {"gpu": pytest.approx(100.0)}
    silent = CounterTrack(bench.track.info)
    assert EnergyMeter([bench.track, silent]).power_watts(1.0) == {"gpu": None}


def test_a_request_that_ran_while_the_counter_was_silent_is_told_null_and_why() -> None:
    bench = Bench()
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    bench.now_seconds = 4.0  # nothing was read meanwhile
    bench.meter.step(EngineStep(4.0, 3.9, 0, 1, 0, 0, 3.9, 0))
    bench.meter.sequence_ended("a", EndedSequence(10, 10, 2, 3.9))
    block = bench.meter.request_ended("a", 4.0).to_block()
    assert block["energy_joules"] is None
    assert "did not answer" in block["reason"]


def test_what_a_counter_tells_after_a_silence_is_nobodys() -> None:
    bench = Bench()
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    bench.meter.step(EngineStep(4.0, 3.9, 0, 1, 0, 0, 3.9, 1))
    charged = bench.meter.assigned_microjoules()
    bench.now_seconds = 9.9
    bench.step(decode=1)
    silent = 10 * WATTS * 1_000_000 - charged
    assert bench.account("unattributed") == pytest.approx(silent, abs=1)
    bench.start("b")
    bench.step(prefill=10, first=1, prompt=10, decode=1)
    bench.meter.sequence_ended("b", EndedSequence(10, 10, 1, 0.0))
    assert bench.meter.request_ended("b", bench.now_seconds).to_block()["energy_joules"] is not None


@pytest.mark.parametrize("polls", [(), (1.5,), (1.1, 1.3, 1.9), (1.95,)])
def test_looking_at_the_books_in_the_first_step_takes_nothing_from_it(polls: tuple[float, ...]) -> None:
    """An engine is first heard of when its step is over: the time until then may not be booked as idle."""
    bench = Bench()
    for tick in range(1, 11):
        bench.now_seconds = tick / 10
        bench.observe()
    bench.start("a")
    for tick in range(11, 21):
        bench.now_seconds = tick / 10
        bench.observe()
        if any(poll <= bench.now_seconds < poll + 0.1 for poll in polls):
            bench.meter.advance(bench.now_seconds)
    bench.meter.step(EngineStep(2.0, 1.0, 10, 0, 1, 10, None, 0))
    bench.meter.sequence_ended("a", ended())
    assert bench.meter.request_ended("a", 2.0).microjoules == pytest.approx(100_000_000, abs=1)
    assert bench.account("idle") == pytest.approx(100_000_000, abs=1)


def test_a_request_that_comes_into_the_first_step_of_another_takes_nothing_from_it(bench: Bench) -> None:
    bench.start("a")
    bench.now_seconds = 0.3
    bench.observe()
    bench.start("b")
    bench.now_seconds = 0.5
    bench.observe()
    bench.meter.step(EngineStep(0.5, 0.5, 10, 0, 1, 10, None, 1))
    bench.meter.sequence_ended("a", ended())
    assert bench.meter.request_ended("a", 0.5).microjoules == pytest.approx(50_000_000, abs=1)


def test_a_reset_that_hides_little_widens_the_uncertainty_and_one_that_hides_much_makes_it_unknown() -> None:
    blocks = []
    for steps in (40, 3):
        bench = Bench()
        bench.start("a")
        bench.step(prefill=10, first=1, prompt=10)
        for _ in range(steps):
            bench.step(decode=1)
        bench.track.observe(EnergyReading(bench.now_seconds + 0.05, 0))
        for tick in range(3):
            bench.now_seconds = round(bench.now_seconds + 0.1, 6)
            bench.track.observe(EnergyReading(bench.now_seconds, (tick + 1) * STEP_MICROJOULES))
        bench.meter.step(EngineStep(bench.now_seconds, 0.3, 0, 1, 0, 0, 0.3, 0))
        bench.meter.sequence_ended("a", EndedSequence(10, 10, steps + 2, steps * 0.1 + 0.3))
        blocks.append(bench.meter.request_ended("a", bench.now_seconds).to_block())
    assert blocks[0]["energy_joules"] > 0
    assert blocks[1]["energy_joules"] is None
    assert "reset" in blocks[1]["reason"]


def test_a_request_over_before_a_counter_was_read_twice_is_told_null_and_not_zero(bench: Bench) -> None:
    bench.start("a")
    bench.meter.step(EngineStep(0.09, 0.09, 10, 0, 1, 10, None, 0))
    bench.meter.sequence_ended("a", ended())
    block = bench.meter.request_ended("a", 0.09).to_block()
    assert block["energy_joules"] is None
    assert "read twice" in block["reason"]


def test_a_request_of_more_steps_than_are_remembered_is_told_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.history._MAX_ROWS", 9_000)
    bench = Bench()
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    for _ in range(10_000):
        bench.step(decode=1)
    bench.meter.sequence_ended("a", ended(steps=10_000))
    block = bench.meter.request_ended("a", bench.now_seconds).to_block()
    assert block["energy_joules"] is None
    assert "remembers" in block["reason"]


def test_a_counter_lost_for_good_costs_neither_memory_nor_time() -> None:
    """The other counter goes on; steps that wait for what never comes are not kept."""
    bench = Bench()
    lost = CounterTrack(bench.track.info)
    for tick in range(3):
        lost.observe(EnergyReading(tick / 100, tick * 100_000))
    bench.meter = EnergyMeter([bench.track, lost])
    bench.meter.engine_ready(0.0)
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    for _ in range(2_000):
        bench.step(decode=1)
    assert len(bench.meter._books[0]._tail) < 60
    assert not bench.meter._supply._draws


def test_an_engine_that_is_silent_while_another_steps_gathers_no_list() -> None:
    bench = Bench()
    bench.meter = EnergyMeter([bench.track], 2)
    bench.meter.engine_ready(0.0)
    for engine in (1, 0):
        bench.now_seconds = round(bench.now_seconds + STEP_SECONDS, 6)
        bench.observe()
        bench.meter.step(EngineStep(bench.now_seconds, STEP_SECONDS, 10, 0, 1, 10, None, 1, engine=engine))
    for _ in range(500):
        bench.step(decode=1)
    assert sum(len(draws) for draws in bench.meter._supply._draws.values()) <= 2
    bench.now_seconds = round(bench.now_seconds + STEP_SECONDS, 6)
    bench.observe()
    bench.meter.step(EngineStep(bench.now_seconds, 50.0, 0, 1, 0, 0, 50.0, 1, engine=1))
    ledger = bench.meter.ledgers[0]
    assert sum(ledger.accounts.values()) + ledger.in_flight == ledger.assigned


def test_a_reset_of_every_board_of_a_group_hides_no_more_than_a_reset_of_one() -> None:
    """A driver that is loaded anew resets them all: each hides its own part of the same moment."""
    bench = Bench()
    others = [CounterTrack(bench.track.info) for _ in range(7)]
    tracks = [bench.track, *others]

    def observe(microjoules: int) -> None:
        for track in tracks:
            track.observe(EnergyReading(bench.now_seconds, microjoules))

    observe(0)
    bench.meter = EnergyMeter(tracks)
    bench.meter.engine_ready(0.0)
    bench.start("a")
    for tick in range(1, 41):
        bench.now_seconds = tick / 10
        observe(tick * STEP_MICROJOULES if tick < 20 else (tick - 20) * STEP_MICROJOULES)
        first = int(tick == 1)
        bench.meter.step(
            EngineStep(bench.now_seconds, 0.1, 10 * first, 1 - first, first, 10 * first, None if first else 0.1, 1)
        )
    bench.meter.sequence_ended("a", ended(steps=39))
    assert bench.meter.request_ended("a", bench.now_seconds).unknown_reason is None


def test_the_first_step_of_a_quiet_engine_began_no_later_than_its_prompts_came(bench: Bench) -> None:
    """An engine that schedules ahead says only how long it waited; the rest of the step is not idle."""
    bench.now_seconds = 1.0
    bench.observe()
    bench.start("a")
    bench.now_seconds = 1.2
    bench.observe()
    bench.meter.step(
        EngineStep(
            ended_at_seconds=1.2,
            duration_seconds=0.001,
            prefill_tokens=10,
            decode_sequences=0,
            first_tokens=1,
            first_token_prompt_tokens=10,
            inter_token_seconds=None,
            unfinished_sequences=0,
            first_token_seconds=0.19,
        )
    )
    bench.meter.sequence_ended("a", ended())
    energy = bench.meter.request_ended("a", 1.2)
    assert energy.prefill_microjoules == pytest.approx(19_000_000, abs=1)
    assert bench.account("idle") == pytest.approx(101_000_000, abs=1)


# -- energy caps ---------------------------------------------------------------------------------------------------


def test_what_a_request_cost_so_far_is_what_it_would_be_charged(bench: Bench) -> None:
    bench.start("a", "b")
    bench.step(prefill=30, first=2, prompt=30, left=2)
    row = bench.meter.first_row_of(ended(10))
    assert sum(bench.meter.energy_so_far("b", [])) == 0
    for steps in range(1, 6):
        bench.step(decode=2, left=2)
        before = bench.meter.energy_so_far("a", [(row, ended(10, steps))])
    bench.meter.sequence_ended("a", ended(10, 5))
    energy = bench.meter.request_ended("a", bench.now_seconds)
    assert (energy.prefill_microjoules, energy.decode_microjoules) == pytest.approx(before, abs=1)
    bench.meter.sequence_ended("b", ended(20, 5))
    charged = bench.meter.energy_so_far("b", [])
    other = bench.meter.request_ended("b", bench.now_seconds)
    assert (other.prefill_microjoules, other.decode_microjoules) == charged
    assert energy.microjoules + other.microjoules == 6 * STEP_MICROJOULES


def test_a_sequence_pays_for_steps_after_its_last_token_if_told_where_it_began(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10)
    row = bench.meter.first_row_of(ended())
    bench.step(decode=1)
    last = ended(steps=1)
    bench.step(decode=1)  # its token was thrown away
    bench.meter.sequence_ended("a", last, row)
    energy = bench.meter.request_ended("a", bench.now_seconds)
    bench.meter.engine_idle(bench.now_seconds)
    assert energy.microjoules == 3 * STEP_MICROJOULES
    assert bench.account("unattributed") == 0


def test_prompts_cut_off_before_their_first_token_are_charged_after_the_answer(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=30, first=1, prompt=10, left=2)
    bench.meter.sequence_ended("a", ended())
    bench.meter.sequence_cut_off("a", ended(prompt=40, prefill_done=False))
    energy = bench.meter.request_ended("a", bench.now_seconds)
    assert energy.outcome == "completed"
    bench.step(decode=0, left=0)
    bench.meter.engine_idle(bench.now_seconds)
    (rest,) = bench.meter.recent_aborts
    assert rest.request_id == "a"
    assert energy.microjoules + rest.microjoules == bench.account("prefill") >= STEP_MICROJOULES
    assert not bench.meter.knows("a")


def test_abandoned_prompts_that_can_be_nobody_elses_are_charged_with_the_answer(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=30, first=1, prompt=10, left=2)
    bench.meter.sequence_ended("a", ended())
    bench.meter.prompts_abandoned("a", 0)
    energy = bench.meter.request_ended("a", bench.now_seconds)
    bench.meter.engine_idle(bench.now_seconds)
    assert energy.microjoules == bench.account("prefill") == STEP_MICROJOULES
    assert not bench.meter.knows("a")


def test_a_prompt_cut_off_before_it_cost_anything_leaves_no_second_record(bench: Bench) -> None:
    bench.start("a")
    bench.step(prefill=10, first=1, prompt=10, left=2)
    bench.meter.sequence_ended("a", ended())
    bench.meter.sequence_cut_off("a", ended(prompt=40, prefill_done=False))
    bench.meter.request_ended("a", bench.now_seconds)
    bench.meter.engine_idle(bench.now_seconds)
    assert (bench.meter.totals.completed, bench.meter.totals.aborted) == (1, 0)
    assert not bench.meter.knows("a")
