"""What the live figures say of requests that have ended: sums, latencies, and what is not known."""

import pytest

from scheduler.targets import LatencyTargets
from server.cost import Cost
from server.exchange_record import ExchangeRecord
from server.live.recent import KEPT
from server.live.tally import LATENCY_WINDOW_SECONDS, RATE_WINDOW_SECONDS, LiveTally
from server.live.token_rates import TokenRates

TARGETS = LatencyTargets(ttft_seconds=1.0, tpot_seconds=0.1)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> LiveTally:
    return LiveTally(clock, TARGETS)


def record(number: int = 1, **fields: object) -> ExchangeRecord:
    given = ExchangeRecord(f"req-{number}", "/v1/chat/completions", "alpha", "m", "default", row_id=f"row-{number}")
    given.outcome, given.worker_id, given.total_seconds = "completed", "worker-1", 2.0
    given.is_stream = "first_byte_seconds" in fields
    for name, value in fields.items():
        setattr(given, name, value)
    return given


def cost(joules: float | None, output_tokens: int | None = 10, reason: str | None = None) -> Cost:
    microjoules = None if joules is None else round(joules * 1e6)
    return Cost(
        microjoules, source="rapl", is_measured=True, reason=reason, prompt_tokens=5, output_tokens=output_tokens
    )


def test_what_is_known_is_summed_and_what_is_not_is_no_zero(tally: LiveTally) -> None:
    tally.count(record(1, cost=cost(4.0)))
    tally.count(record(2, cost=cost(2.0)))
    tally.count(record(3, tenant="beta", cost=cost(None, reason="no meter")))
    assert (tally.prompt_tokens, tally.output_tokens) == (15, 30)
    assert tally.tenants["alpha"].energy_joules == pytest.approx(6.0)
    assert tally.tenants["beta"].energy_joules is None
    assert tally.tenants["beta"].output_tokens == 10
    last = tally.recent.latest_first()[0]
    assert (last.request_id, last.energy_joules, last.reason) == ("req-3", None, "no meter")
    # Tokens whose energy is not known would make the others look cheap.
    assert tally.joules_per_output_token() == pytest.approx((0.3, 0.3))


def test_the_last_minute_ends(tally: LiveTally, clock: Clock) -> None:
    assert tally.joules_per_output_token() == (None, None)
    tally.count(record(1, cost=cost(4.0)))
    clock.seconds += RATE_WINDOW_SECONDS + 1
    last_minute, since_start = tally.joules_per_output_token()
    assert (last_minute, since_start) == (None, 0.4)


def test_a_charge_finds_its_request_whether_it_comes_late_or_early(tally: LiveTally) -> None:
    late, early = record(1, outcome="aborted"), record(2, outcome="aborted")
    tally.count(late)
    assert tally.recent.latest_first()[0].reason == "its worker has not told yet"
    tally.charge(early, 1.5)
    tally.charge(late, 2.5)
    tally.count(early)
    told = {request.request_id: (request.energy_joules, request.reason) for request in tally.recent.latest_first()}
    assert told == {"req-1": (2.5, None), "req-2": (1.5, None)}
    assert tally.tenants["alpha"].energy_joules == pytest.approx(4.0)


def test_what_an_attempt_that_broke_off_used_is_added(tally: LiveTally) -> None:
    tally.count(record(1, cost=cost(4.0)))
    tally.charge(record(1), 1.0)
    assert tally.recent.latest_first()[0].energy_joules == pytest.approx(5.0)


def test_the_latest_are_kept_and_no_more(tally: LiveTally) -> None:
    for number in range(KEPT + 5):
        tally.count(record(number))
    kept = tally.recent.latest_first()
    assert (len(kept), kept[0].request_id) == (KEPT, f"req-{KEPT + 4}")
    assert tally.outcomes["completed"] == KEPT + 5


def test_latencies_are_of_streams_that_promised_them(tally: LiveTally, clock: Clock) -> None:
    assert tally.latency().slo_attainment_ratio is None
    tally.count(record(1, first_byte_seconds=0.5, total_seconds=1.4, cost=cost(1.0)))  # 0.1 s a token
    tally.count(record(2, first_byte_seconds=1.5, total_seconds=1.5, cost=cost(1.0)))  # too late
    tally.count(record(3, first_byte_seconds=9.0, total_seconds=9.0, tier="flex"))
    tally.count(record(4, total_seconds=9.0))
    seen = tally.latency()
    assert (seen.requests, seen.slo_attainment_ratio) == (2, 0.5)
    assert (seen.ttft_p50_seconds, seen.ttft_p99_seconds) == (1.5, 1.5)
    assert seen.tpot_p99_seconds == pytest.approx(0.1)
    clock.seconds += LATENCY_WINDOW_SECONDS + 1
    assert tally.latency().ttft_p50_seconds is None


def test_streams_that_never_began_or_broke_off_late_have_missed_their_target(tally: LiveTally) -> None:
    tally.count(record(1, first_byte_seconds=0.5, total_seconds=0.5, cost=cost(1.0)))
    tally.count(record(2, is_stream=True, outcome="refused", total_seconds=30.0))
    tally.count(record(3, first_byte_seconds=9.0, outcome="aborted"))
    tally.count(record(4, is_stream=True, outcome="refused", total_seconds=0.01))  # a wrong request, say
    slow_caller = record(5, first_byte_seconds=0.5, total_seconds=60.0, held_up_seconds=59.0, cost=cost(1.0))
    tally.count(slow_caller)
    seen = tally.latency()
    assert (seen.requests, seen.slo_attainment_ratio) == (4, 0.5)
    assert seen.ttft_p99_seconds == 0.5, "of those answered to their end"


def test_token_rates_are_of_the_last_seconds(clock: Clock) -> None:
    rates = TokenRates(clock)
    assert rates.look("one", 100) is None
    clock.seconds += 4
    assert rates.look("one", 140) == pytest.approx(10.0)
    for _ in range(30):
        clock.seconds += 1
        steady = rates.look("one", 140)
    assert steady == 0.0
    assert rates.look("one", 5) is None, "a new life counts anew"
    clock.seconds += 3600
    assert rates.look("one", 9) is None, "the mean of an hour is not of now"
    assert rates.look("one", None) is None
