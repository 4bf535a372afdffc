"""The load client of `wattline bench energy` on real HTTP: a fake engine behind a real front end."""

from pathlib import Path

import pytest

from bench.energy.arrivals import PlannedRequest, plan
from bench.energy.figures import figures_of
from bench.energy.measurement import measure
from bench.energy.open_load import Target, drive
from bench.energy.server_under_test import ServerUnderTest
from scheduler.targets import LatencyTargets
from tests.integration.processes import FrontEnd, fake_engine, front_end

TOKENS_PER_SECOND = 50


def target(server: FrontEnd) -> Target:
    return Target(server.url, "fake")


def now(output_tokens: int) -> PlannedRequest:
    return PlannedRequest(0.0, "river stone garden", output_tokens)


async def test_a_caller_s_latencies_tokens_and_joules_are_written_down(server: FrontEnd) -> None:
    (answer,) = await drive(target(server), [now(11)], request_seconds=10)
    assert answer.error is None
    assert answer.output_tokens == 11
    assert answer.energy_joules is not None
    assert answer.energy_joules > 0
    assert answer.first_token_seconds is not None
    assert answer.first_token_seconds < answer.total_seconds
    assert answer.seconds_per_token == pytest.approx(1 / TOKENS_PER_SECOND, rel=0.5)


async def test_requests_are_sent_at_their_time_whatever_became_of_earlier_ones(server: FrontEnd) -> None:
    planned = [PlannedRequest(at, "river", 50) for at in (0.0, 0.1, 0.2)]
    answers = await drive(target(server), planned, request_seconds=10)
    assert all(answer.late_seconds < 0.1 for answer in answers)
    assert all(answer.total_seconds > 0.9 for answer in answers)


async def test_an_answer_that_does_not_end_in_time_is_given_up(server: FrontEnd) -> None:
    (answer,) = await drive(target(server), [now(500)], request_seconds=0.3)
    assert answer.error == "not answered within 0.3 s"
    assert answer.first_token_seconds is not None


async def test_a_refusal_is_written_down_with_its_status(server: FrontEnd) -> None:
    (answer,) = await drive(Target(server.url, "no-such-model"), [now(5)], request_seconds=10)
    assert answer.error is not None
    assert answer.error.startswith("status 404")


async def test_a_server_that_is_not_there_fails_the_request_and_nothing_else() -> None:
    (answer,) = await drive(Target("http://127.0.0.1:1", "fake"), [now(5)], request_seconds=10)
    assert answer.error is not None
    assert answer.output_tokens is None


async def test_a_run_s_joules_tokens_and_dispatches_agree_with_the_server_s_own(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", str(TOKENS_PER_SECOND)) as one,
        fake_engine(tmp_path, "--decode-tokens-per-second", str(TOKENS_PER_SECOND)) as other,
        front_end(tmp_path, one.url, other.url, policy="round-robin") as running,
    ):
        server = ServerUnderTest(running.url, running.process.pid, "fake", 0.0)
        seen = await measure(server, plan(20, 20.0, 20, seed=1), 10.0, settle_seconds=0, baseline_seconds=0.1)
    run = figures_of("round-robin", 1, seen, LatencyTargets(ttft_seconds=1.0, tpot_seconds=1.0))
    assert (run.failed_requests, run.first_error) == (0, None)
    assert run.output_tokens == sum(one.output_tokens for one in plan(20, 20.0, 20, seed=1))
    assert run.dispatches == {"remote-0": {"round_robin": 10}, "remote-1": {"round_robin": 10}}
    assert run.ttft_attainment_ratio == 1.0
    assert run.request_joules == pytest.approx(run.account_joules["prefill"] + run.account_joules["decode"], rel=0.05)
    assert run.energy_joules > run.request_joules
    assert set(run.running_requests) == {"remote-0", "remote-1"}
    assert run.front_end_cpu_seconds > 0
