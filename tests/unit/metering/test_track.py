"""One counter's timeline: between readings, past them, and over its faults."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.counter import CounterInfo, EnergyReading
from metering.fault import CounterFault
from metering.track import CounterTrack

Report = tuple[str, CounterFault]


def track(
    update_period_seconds: float = 0.1,
    origin_microjoules: int | None = None,
    *,
    may_stand_still: bool = False,
    reports: list[Report] | None = None,
) -> CounterTrack:
    info = CounterInfo(
        "fake:0",
        "gpu",
        "replay",
        measured=False,
        update_period_seconds=update_period_seconds,
        uncertainty_ratio=None,
        description="a counter for tests",
        may_stand_still=may_stand_still,
    )
    heard = [] if reports is None else reports
    return CounterTrack(info, origin_microjoules, lambda told, fault: heard.append((told.device, fault)))


def fed(*readings: tuple[float, int], update_period_seconds: float = 0.1) -> CounterTrack:
    one = track(update_period_seconds)
    for at_seconds, microjoules in readings:
        one.observe(EnergyReading(at_seconds, microjoules))
    return one


def test_without_a_reading_nothing_is_known() -> None:
    assert track().confirmed_microjoules() == 0
    assert track().estimate_microjoules(5.0) == 0
    assert track().power_watts(5.0) is None


def test_energy_counts_from_the_first_reading() -> None:
    one = fed((10.0, 900), (11.0, 1_000))
    assert one.confirmed_microjoules() == 100
    assert one.estimate_microjoules(0.0) == 0


def test_an_origin_counts_what_was_spent_before_the_first_reading() -> None:
    one = track(origin_microjoules=0)
    one.observe(EnergyReading(10.0, 900))
    assert one.confirmed_microjoules() == 900


def test_energy_is_linear_between_readings() -> None:
    one = fed((10.0, 0), (11.0, 1_000), (12.0, 5_000))
    assert [one.estimate_microjoules(at) for at in (10.25, 11.0, 11.5, 12.0)] == [250, 1_000, 3_000, 5_000]


def test_past_the_last_reading_the_last_power_is_believed_for_three_seconds() -> None:
    one = fed((10.0, 0), (11.0, 100_000_000))
    assert one.estimate_microjoules(11.5) == 150_000_000
    assert one.estimate_microjoules(14.0) == one.estimate_microjoules(60.0) == 400_000_000
    assert not one.is_blind(13.9)
    assert one.is_blind(14.1)


def test_a_staircase_is_seen_as_the_slope_it_hides() -> None:
    """A register refreshed every 100 ms and read every 20 ms: the estimate never stands on a tread."""
    one = track()
    for tick in range(51):
        one.observe(EnergyReading(tick * 0.02, tick // 5 * 10_000_000))
    assert one.estimate_microjoules(0.85) == pytest.approx(85_000_000, rel=0.01)
    assert one.power_watts(1.0) == pytest.approx(100.0)
    assert one.confirmed_microjoules() == 100_000_000


def stand_still(one: CounterTrack, until_seconds: float) -> None:
    """Answers of 50 J and no more, ten a second since 0.5 s."""
    for tick in range(5, round(until_seconds * 10) + 1):
        one.observe(EnergyReading(tick * 0.1, 50_000_000))


@pytest.mark.parametrize("period_seconds", [0.05, 0.1, 1.0, 5.0])
def test_a_recording_of_any_rhythm_may_end_flat(period_seconds: float) -> None:
    one = track(period_seconds, may_stand_still=True)
    for tick in range(2000):
        now = tick * 0.05
        one.observe(EnergyReading(now, min(100_000_000, round(now * 20_000_000))))
        assert not one.is_blind(now)
    assert one.faults == {}


def test_a_silence_that_nobody_looked_into_is_a_fault_all_the_same() -> None:
    reports: list[Report] = []
    one = track(reports=reports)
    for tick in range(11):
        one.observe(EnergyReading(tick * 0.1, tick * 10_000_000))
    generation = one.generation
    one.observe(EnergyReading(6.0, 600_000_000))
    assert reports == [("fake:0", CounterFault.LOST)]
    assert one.stray_microjoules == 500_000_000
    assert one.spent_microjoules(0.5, 0.9, generation) is None


def test_a_recording_may_stand_still() -> None:
    one = track(may_stand_still=True)
    one.observe(EnergyReading(0.0, 0))
    stand_still(one, 6.0)
    assert one.power_watts(6.0) == pytest.approx(0.0)
    assert one.estimate_microjoules(6.1) == 50_000_000
    assert not one.is_blind(6.1)
    assert one.epochs == 1


def test_hardware_that_stands_still_is_believed_for_three_seconds_and_no_longer() -> None:
    reports: list[Report] = []
    one = track(reports=reports)
    one.observe(EnergyReading(0.0, 0))
    stand_still(one, 3.0)
    assert not one.is_blind(3.0)
    stand_still(one, 4.0)
    assert one.power_watts(4.0) is None
    assert one.is_blind(4.0)
    assert one.is_blind(4.1)
    assert reports == [("fake:0", CounterFault.STALL)]
    assert (one.epochs, one.faults) == (2, {CounterFault.STALL: 1})
    one.observe(EnergyReading(4.2, 420_000_000))
    assert not one.is_blind(4.2)
    assert one.stray_microjoules == 370_000_000
    assert one.confirmed_microjoules() == 420_000_000


def test_a_counter_that_is_lost_and_found_tells_of_stray_energy() -> None:
    reports: list[Report] = []
    one = track(reports=reports)
    for tick in range(11):
        one.observe(EnergyReading(tick * 0.1, tick * 10_000_000))
    assert one.is_blind(9.0)
    one.observe(EnergyReading(9.5, 950_000_000))
    one.observe(EnergyReading(9.6, 960_000_000))
    assert reports == [("fake:0", CounterFault.LOST)]
    assert one.stray_microjoules == 850_000_000
    assert one.confirmed_microjoules() == 960_000_000


@pytest.mark.parametrize("fault", [CounterFault.SAMPLER, CounterFault.SUSPENDED])
def test_an_interruption_begins_an_epoch_and_makes_the_next_rise_stray(fault: CounterFault) -> None:
    reports: list[Report] = []
    one = track(reports=reports)
    for tick in range(11):
        one.observe(EnergyReading(tick * 0.1, tick * 10_000_000))
    one.interrupt(fault, 3600.0 if fault is CounterFault.SUSPENDED else 0.0)
    assert one.is_blind(1.05)
    one.observe(EnergyReading(1.1, 25_000_000_000 if fault is CounterFault.SUSPENDED else 110_000_000))
    assert one.stray_microjoules == one.confirmed_microjoules() - 100_000_000 > 0
    assert (reports, one.epochs) == ([("fake:0", fault)], 2)
    assert not one.is_blind(1.15)


def test_a_leap_while_the_machine_was_awake_is_not_excused_by_an_interruption() -> None:
    one = track()
    for tick in range(11):
        one.observe(EnergyReading(tick * 0.1, tick * 10_000_000))
    one.interrupt(CounterFault.SAMPLER)
    one.observe(EnergyReading(1.1, 25_000_000_000))
    assert one.faults == {CounterFault.SAMPLER: 1, CounterFault.JUMP: 1}
    assert (one.stray_microjoules, one.confirmed_microjoules()) == (0, 100_000_000)


def test_what_came_after_a_silence_is_not_taken_for_power() -> None:
    one = track()
    for tick in range(11):
        one.observe(EnergyReading(tick * 0.1, tick * 10_000_000))
    one.interrupt(CounterFault.SUSPENDED, 3600.0)
    one.observe(EnergyReading(1.15, 36_100_000_000))
    assert one.power_watts(1.2) is None
    assert one.estimate_microjoules(1.2) == one.confirmed_microjoules() == 36_100_000_000
    one.observe(EnergyReading(1.25, 36_110_000_000))
    assert one.power_watts(1.25) == pytest.approx(100.0)


def test_power_is_unknown_when_the_counter_no_longer_answers() -> None:
    one = fed((0.0, 0), (0.5, 50_000_000))
    assert one.power_watts(1.4) == pytest.approx(100.0)
    assert one.power_watts(1.6) is None


@pytest.mark.parametrize("raw_after", [0, 10**15], ids=["reset", "leap"])
def test_a_fault_opens_an_epoch_that_counts_on_from_the_value_reached(raw_after: int) -> None:
    one = fed((0.0, 5_000), (1.0, 6_000))
    one.observe(EnergyReading(2.0, raw_after))
    assert one.epochs == 2
    assert one.confirmed_microjoules() == 1_000
    one.observe(EnergyReading(3.0, raw_after + 700))
    assert one.confirmed_microjoules() == 1_700


def test_a_counter_that_catches_up_after_a_stall_has_not_leapt() -> None:
    """What 700 W spent in a minute without refresh is too much for one reading, but not for the minute."""
    one = fed((0.0, 0), (1.0, 700_000_000))
    for second in range(2, 61):
        one.observe(EnergyReading(float(second), 700_000_000))
    one.observe(EnergyReading(60.05, 700_000_000 * 60))
    assert one.faults == {CounterFault.STALL: 1}
    assert one.confirmed_microjoules() == 700_000_000 * 60


def test_a_reading_out_of_order_is_ignored() -> None:
    one = fed((1.0, 0), (2.0, 1_000))
    one.observe(EnergyReading(1.5, 0))
    assert (one.epochs, one.confirmed_microjoules()) == (1, 1_000)


@given(
    st.lists(st.tuples(st.floats(0.001, 2.0), st.integers(0, 10**12)), min_size=1, max_size=60),
    st.floats(0.0, 100.0),
)
def test_the_timeline_never_falls_whatever_the_register_says(
    readings: list[tuple[float, int]], looked_at_seconds: float
) -> None:
    one, now, confirmed = track(), 0.0, 0
    for elapsed, microjoules in readings:
        now += elapsed
        one.observe(EnergyReading(now, microjoules))
        assert one.confirmed_microjoules() >= confirmed
        confirmed = one.confirmed_microjoules()
    looks = sorted({0.0, looked_at_seconds, now / 2, now, now + 0.5, now + 5.0})
    estimates = [one.estimate_microjoules(at) for at in looks]
    assert estimates == sorted(estimates)
    assert one.estimate_microjoules(now + 5.0) >= confirmed


def test_memory_is_bounded() -> None:
    one = track()
    for tick in range(5_000):
        one.observe(EnergyReading(tick * 0.05, tick * 1_000_000))
    assert len(one._points) == 2400
    assert one.confirmed_microjoules() == 4_999_000_000


def test_reading_and_asking_in_two_threads_agree() -> None:
    one = fed((0.0, 0))

    def feed() -> None:
        for tick in range(1, 3_000):
            one.observe(EnergyReading(tick * 0.05, tick * 1_000_000))

    thread = threading.Thread(target=feed)
    thread.start()
    seen = [0]
    while thread.is_alive():
        seen.append(one.confirmed_microjoules())
        one.estimate_microjoules(50.0)
    thread.join()
    assert seen == sorted(seen)
    assert one.confirmed_microjoules() == 2_999_000_000
