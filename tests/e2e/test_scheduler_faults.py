"""Two real engines under load, one of which is killed, stopped or parked: no request is lost, and all are counted."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from server.engines import detect_device
from tests.e2e.figures import show
from tests.e2e.mixed_load import End, MixedLoad
from tests.e2e.process_tree import EngineProcesses
from tests.e2e.wattline_process import Metrics, WattlineProcess, counter_microjoules, engine_energy, parts_microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STALL_SECONDS: Final = 6.0
# The worker is looked at once a second, by a machine that has better to do.
NOTICED_SECONDS: Final = STALL_SECONDS + 5.0
REPLACED_SECONDS: Final = 180.0
REQUESTS: Final = 24
CONCURRENCY: Final = 16
OUTPUT_TOKENS: Final = 48
# So little that the forecast wants one worker only, whatever else the machine does.
LIGHT_TOKENS: Final = 4
LIGHT_PAUSE_SECONDS: Final = 3.0

Fault = Callable[[EngineProcesses], None]


@pytest.fixture(scope="module")
def server(
    checkpoint: Path,  # fetched before the server looks for it
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WattlineProcess]:
    """Two engines under the policy `energy`, with a target that makes a load spill over to the second.

    Idling is set to cost almost what working does, so that parking pays after about as long as a start takes: the
    least that it can be, as the worst that a start can cost is full power all the time.
    """
    if detect_device("auto") != "cpu" or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPU cores and no GPU: the engines get a core each")
    running = WattlineProcess(
        tmp_path_factory.mktemp("faults") / "output.log",
        ["--workers", "2", "--device", "cpu", "--slo-tpot-seconds", "0.12"],
        ["--max-model-len", "512"],
        {
            "WATTLINE_STALL_SECONDS": f"{STALL_SECONDS:g}",
            "WATTLINE_ESTIMATE_IDLE_WATTS_PER_VCPU": "3.4",
            "WATTLINE_ESTIMATE_MAX_WATTS_PER_VCPU": "3.5",
        },
    )
    try:
        show(f"both engines ready after {running.wait_ready(workers=2):.1f} s")
        yield running
        running.stop()
    finally:
        running.discard()


def kill_api_server(engine: EngineProcesses) -> None:
    os.kill(engine.api_server_pid, signal.SIGKILL)


def kill_engine_core(engine: EngineProcesses) -> None:
    os.kill(engine.engine_core_pid(), signal.SIGKILL)


def stop_session(engine: EngineProcesses) -> None:
    for pid in engine.session_pids():
        os.kill(pid, signal.SIGSTOP)


def stop_engine_core(engine: EngineProcesses) -> None:
    os.kill(engine.engine_core_pid(), signal.SIGSTOP)


async def test_workers_are_parked_and_started_while_requests_flow(server: WattlineProcess) -> None:
    before = await asyncio.to_thread(server.metrics)
    load = MixedLoad(server.url, LIGHT_TOKENS)
    is_over = False
    light = asyncio.create_task(load.trickle(lambda: is_over, LIGHT_PAUSE_SECONDS))
    for worker in (await asyncio.to_thread(server.scheduler))["workers"]:
        learned = worker["learned"]
        worth_seconds = learned["start_joules"] / (learned["idle_watts"] - learned["parked_watts"])
        show(f"{worker['worker_id']}: parking pays after {worth_seconds:.0f} s, {learned}")
    began_at_seconds = time.monotonic()
    await until(lambda: sorted(states(server)) == ["parked", "ready"], 240)
    show(f"parked after {time.monotonic() - began_at_seconds:.1f} s; by then {load.summary()}")
    (parked,) = [worker["worker_id"] for worker in server.scheduler()["workers"] if worker["state"] == "parked"]
    (engine,) = server.engines()
    assert engine.worker_id != parked

    burst = MixedLoad(server.url, OUTPUT_TOKENS)
    await burst.run(REQUESTS, REQUESTS)
    show(f"burst: {burst.summary()}; states {states(server)}")
    began_at_seconds = time.monotonic()
    await until(lambda: both_ready(server), REPLACED_SECONDS)
    show(f"started {time.monotonic() - began_at_seconds:.1f} s after the end of the burst")
    second = MixedLoad(server.url, OUTPUT_TOKENS)
    await second.run(REQUESTS, REQUESTS)
    is_over = True
    await light
    show(f"second burst: {second.summary()}; light traffic: {load.summary()}")
    for one in (load, burst, second):
        assert one.ends == {End.ANSWERED: one.sent}, one.problems

    await check_books(server, before, load, burst, second)
    after = await asyncio.to_thread(server.metrics)
    assert gained(before, after, "wattline_worker_commands_total", worker=parked, command="park") == 1
    assert gained(before, after, "wattline_worker_commands_total", worker=parked, command="start") == 1
    assert gained(before, after, "wattline_worker_restarts_total") == 0
    assert gained(before, after, "wattline_dispatches_total", worker=parked) > 0
    decisions = [(one["command"], one["worker_id"], one["reason"]) for one in server.scheduler()["decisions"]]
    show(f"decisions: {decisions}")
    assert [decision[:2] for decision in decisions[:2]] == [("start", parked), ("park", parked)]


@pytest.mark.parametrize("fault", [kill_api_server, kill_engine_core, stop_session, stop_engine_core])
async def test_no_request_is_lost_with_an_engine_and_it_is_replaced(server: WattlineProcess, fault: Fault) -> None:
    await wake_both(server)
    before = await asyncio.to_thread(server.metrics)
    load = MixedLoad(server.url, OUTPUT_TOKENS)
    running = asyncio.create_task(load.run(REQUESTS, CONCURRENCY))
    victim = await busiest_engine(server, load)
    worker_id = victim.worker_id
    shown = f"{load.begun} streams under way, {load.waiting} requests without a byte"
    fault(victim)
    started_at_seconds = time.monotonic()
    await until(lambda: state_of(server, worker_id) != "ready", NOTICED_SECONDS)
    noticed_seconds = time.monotonic() - started_at_seconds
    await running
    show(f"{fault.__name__} of {worker_id} with {shown}: noticed after {noticed_seconds:.1f} s; {load.summary()}")
    show("\n".join(sorted(set(load.problems))))
    assert load.ends[End.LOST] == load.ends[End.FAILED] == 0, load.problems
    assert load.ends[End.ERROR_EVENT] > 0, "nothing of what ran on it had begun"

    await until(lambda: state_of(server, worker_id) == "ready", REPLACED_SECONDS)
    show(f"replaced after {time.monotonic() - started_at_seconds:.1f} s")
    (fresh,) = [engine for engine in server.engines() if engine.worker_id == worker_id]
    assert fresh.api_server_pid != victim.api_server_pid
    assert not set(victim.session_pids())
    await check_books(server, before, load)
    after = await asyncio.to_thread(server.metrics)
    assert gained(before, after, "wattline_worker_restarts_total", worker=worker_id) == 1
    assert gained(before, after, "wattline_dispatches_total", reason="retry") > 0


async def check_books(server: WattlineProcess, before: Metrics, *loads: MixedLoad) -> None:
    """What the server counted is what its callers saw, nothing is left over, and every engine's energy adds up."""
    report = await asyncio.to_thread(server.scheduler)
    assert (report["queued_requests"], report["running_requests"]) == (0, 0)
    after = await asyncio.to_thread(server.metrics)
    sent = sum(load.sent for load in loads)
    outcomes = {
        outcome: gained(before, after, "wattline_requests_total", outcome=outcome)
        for outcome in ("completed", "failed", "refused", "aborted")
    }
    retries = gained(before, after, "wattline_dispatches_total", reason="retry")
    show(f"counted: {outcomes}, {retries:.0f} retries, dispatches {report['dispatches_by_reason']}")
    assert outcomes == {
        "completed": sum(load.ends[End.ANSWERED] for load in loads),
        "failed": sum(load.ends[End.ERROR_EVENT] for load in loads),
        "refused": 0,
        "aborted": 0,
    }
    assert gained(before, after, "wattline_dispatches_total") == sent + retries
    for worker in report["workers"]:
        assert after.total("wattline_worker_state", worker=worker["worker_id"], state=worker["state"]) == 1
    for reason, count in report["dispatches_by_reason"].items():
        assert after.total("wattline_dispatches_total", reason=reason) == count
    for engine in server.engines():
        energy = await asyncio.to_thread(engine_energy, engine.socket_path)
        assert parts_microjoules(energy) == counter_microjoules(energy)


def gained(before: Metrics, after: Metrics, name: str, **labels: str) -> float:
    return after.total(name, **labels) - before.total(name, **labels)


async def wake_both(server: WattlineProcess) -> None:
    """A worker that idled while the other was replaced may have been parked since: a burst makes it start."""
    burst = MixedLoad(server.url, OUTPUT_TOKENS)
    while not await asyncio.to_thread(both_ready, server):
        await burst.run(REQUESTS, REQUESTS)
    assert burst.ends[End.ANSWERED] == burst.sent, burst.problems


async def busiest_engine(server: WattlineProcess, load: MixedLoad) -> EngineProcesses:
    """The engine with the most requests, once nearly all streams of a full load have begun and whole answers wait."""
    found: list[dict[str, Any]] = []

    def is_loaded() -> bool:
        found[:] = sorted(server.scheduler()["workers"], key=lambda worker: -worker["running_requests"])
        is_busy = bool(found[0]["running_requests"] >= CONCURRENCY // 2)
        return is_busy and load.begun >= CONCURRENCY // 2 - 1 and load.waiting > 0

    await until(is_loaded, 120)
    return next(engine for engine in server.engines() if engine.worker_id == found[0]["worker_id"])


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until it holds. It asks over HTTP, so not on this loop."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # another process sets no event of ours
            await asyncio.sleep(0.1)


def states(server: WattlineProcess) -> list[str]:
    return [worker["state"] for worker in server.scheduler()["workers"]]


def state_of(server: WattlineProcess, worker_id: str) -> str:
    return next(str(one["state"]) for one in server.scheduler()["workers"] if one["worker_id"] == worker_id)


def both_ready(server: WattlineProcess) -> bool:
    return states(server) == ["ready", "ready"]
