"""The stat logger fed with the structures of the vLLM that is installed, filled by vLLM's own code."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metering.counter import EnergyReading
from metering.meter import EnergyMeter
from metering.track import CounterTrack
from metering.vllm_plugin import session as session_module
from metering.vllm_plugin.session import MeterSession

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(120),  # importing vLLM takes ten seconds and more
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # raised by what vLLM imports
]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeterSession:
    recording = tmp_path / "recording.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n3600,gpu,1\n")
    one = MeterSession({"WATTLINE_METER": f"replay:{recording}"})
    assert one._sampler is not None
    one._sampler.stop()
    assert one.meter is not None
    track = CounterTrack(one.meter.tracks[0].info)
    track.observe(EnergyReading(0.0, 0))
    one.meter = EnergyMeter([track])
    monkeypatch.setitem(session_module._sessions, os.getpid(), one)
    return one


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    one = Clock()
    monkeypatch.setattr("metering.vllm_plugin.stat_logger.time", one)
    return one


class Clock:
    """The stat logger's time, which passes with the engine's steps."""

    def __init__(self) -> None:
        self.now_seconds = 0.0

    def monotonic(self) -> float:
        return self.now_seconds


class Engine:
    """Builds what vLLM's output loop hands to its stat loggers."""

    def __init__(self, session: MeterSession, clock: Clock) -> None:
        from vllm.v1.engine import FinishReason  # noqa: PLC0415  # slow
        from vllm.v1.metrics import stats  # noqa: PLC0415  # slow

        from metering.vllm_plugin.stat_logger import EnergyStatLogger  # noqa: PLC0415  # slow

        self.stats = stats
        self.session = session
        self.clock = clock
        self.reason = FinishReason.STOP
        config: Any = SimpleNamespace(model_config=SimpleNamespace(served_model_name=["tiny", "alias"]))
        self.logger = EnergyStatLogger(config, 0)
        self.logger.log_engine_initialized()
        self.joules = 0.0

    def scheduler(self, context_tokens: int, generating: int, left: int) -> Any:
        scheduler = self.stats.SchedulerStats(num_running_reqs=left)
        if context_tokens or generating:
            scheduler.iteration_details = self.stats.SchedulerIterationDetails(
                0, int(context_tokens > 0), context_tokens, generating, generating, elapsed_ms=1000
            )
            self.clock.now_seconds += 1.0
            self.spend(2.0)
        return scheduler

    def spend(self, joules: float) -> None:
        assert self.session.meter is not None
        self.joules += joules
        self.session.meter.tracks[0].observe(EnergyReading(self.clock.now_seconds, round(self.joules * 1e6)))

    def output(self, request: Any, iteration: Any, at_seconds: float, *, first: bool) -> None:
        from vllm.v1.engine import EngineCoreOutput  # noqa: PLC0415  # slow
        from vllm.v1.metrics.stats import LoRARequestStates, PrefillStats  # noqa: PLC0415  # slow

        prefill = PrefillStats() if first else None
        if prefill is not None:
            prefill.set(10, 4, 0)
        output = EngineCoreOutput(request_id="engine", new_token_ids=[1], prefill_stats=prefill)
        iteration.update_from_output(output, at_seconds, first, request, LoRARequestStates(), None)


def test_vllms_statistics_become_energy_per_request(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock)
    meter = session.meter
    assert meter is not None
    assert session.model == "tiny"
    meter.request_started("job-12", 0.0)
    request = engine.stats.RequestStateStats(arrival_time=time.time())

    engine.logger.record(engine.scheduler(4, 0, left=1), None)  # a chunk of the prompt: no output yet
    first = engine.stats.IterationStats()
    engine.output(request, first, 100.0, first=True)
    engine.logger.record(engine.scheduler(2, 0, left=1), first)
    last = engine.stats.IterationStats()
    engine.output(request, last, 100.5, first=False)
    last.update_from_finished_request(engine.reason, "cmpl-job-12-0", 10, 2, request, num_cached_tokens=4)
    engine.logger.record(engine.scheduler(0, 1, left=0), last)
    engine.logger.record(engine.scheduler(0, 0, left=0), None)

    energy = meter.request_ended("job-12", clock.now_seconds)
    assert energy.prefill_microjoules == pytest.approx(4_000_000, abs=1)  # both chunks of six computed tokens
    assert energy.decode_microjoules == pytest.approx(2_000_000, abs=1)
    assert (energy.prompt_tokens, energy.output_tokens) == (10, 2)
    assert (session.running_requests, session.waiting_requests) == (0, 0)
    (ledger,) = meter.ledgers
    assert sum(ledger.accounts.values()) == ledger.assigned == 6_000_000
    assert ledger.in_flight == 0
    work = session.telemetry()["work"]
    assert (work["steps_total"], work["step_seconds_total"]) == (3, 3.0)
    assert (work["prefill_tokens_total"], work["decode_tokens_total"]) == (6, 1)
    assert work["kv_cache_usage_ratio"] == 0.0


def test_a_vllm_that_counts_no_preemptions_is_metered_all_the_same(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock)
    meter = session.meter
    assert meter is not None
    meter.request_started("old", 0.0)
    iteration = engine.stats.IterationStats()
    engine.output(engine.stats.RequestStateStats(arrival_time=time.time()), iteration, 100.0, first=True)
    told: dict[str, Any] = {"num_prompt_tokens": 10, "num_cached_tokens": 4, "num_generation_tokens": 1}
    iteration.finished_requests.append(SimpleNamespace(request_id="chatcmpl-old", decode_time=0.0, **told))
    engine.logger.record(engine.scheduler(6, 0, left=0), iteration)
    assert session.meter is meter
    assert meter.request_ended("old", clock.now_seconds).prefill_microjoules == pytest.approx(2_000_000, abs=1)


def test_work_is_counted_where_energy_is_not_measured(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock)
    prefill, decode, idle = (engine.scheduler(*step) for step in ((30, 0, 2), (0, 2, 2), (0, 0, 0)))
    session.fail("no counter")
    assert session.telemetry()["work"]["steps_total"] == 0
    prefill.kv_cache_usage = 0.25
    engine.logger.record(prefill, None)
    report = session.telemetry()
    assert report["source"] is None
    assert report["running_requests"] == 2
    work = report["work"]
    assert work == {
        "steps_total": 1,
        "step_seconds_total": 1.0,
        "decode_tokens_total": 0,
        "prefill_tokens_total": 30,
        "loading_seconds": work["loading_seconds"],
        "kv_cache_usage_ratio": 0.25,
    }
    engine.logger.record(decode, None)
    engine.logger.record(idle, None)
    work = session.telemetry()["work"]
    assert (work["steps_total"], work["decode_tokens_total"], work["kv_cache_usage_ratio"]) == (2, 2, 0.0)
    assert session.unmeasured_reason == "no counter"


def test_a_meter_that_fails_leaves_the_work_counted(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock)
    unreadable = engine.stats.IterationStats()
    unreadable.finished_requests = [SimpleNamespace()]
    engine.logger.record(engine.scheduler(4, 0, left=1), unreadable)
    assert session.meter is None
    assert session.telemetry()["work"]["prefill_tokens_total"] == 4


def test_a_surprise_in_vllms_statistics_stops_the_meter_and_not_the_engine(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock)
    engine.logger.record(engine.scheduler(4, 0, left=1), SimpleNamespace())
    assert session.meter is None
    assert "AttributeError" in session.unmeasured_reason
    assert session.telemetry()["work"] is None
    engine.logger.record(engine.stats.SchedulerStats(), None)


def test_more_cached_than_prompt_tokens_costs_nothing(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock)
    assert session.meter is not None
    session.meter.request_started("a", time.monotonic())
    request = engine.stats.RequestStateStats()
    iteration = engine.stats.IterationStats()
    engine.output(request, iteration, 100.0, first=True)
    iteration.update_from_finished_request(engine.reason, "chatcmpl-a", 10, 1, request, num_cached_tokens=16)
    engine.logger.record(engine.scheduler(6, 0, left=0), iteration)
    assert session.meter.request_ended("a", time.monotonic()).microjoules == 0


def config_of(engines: int) -> Any:
    parallel = SimpleNamespace(world_size=1, data_parallel_size_local=engines)
    return SimpleNamespace(
        model_config=SimpleNamespace(served_model_name="tiny"),
        parallel_config=parallel,
        device_config=SimpleNamespace(device_type="cpu"),
    )


def test_data_parallel_engines_in_one_server_are_told_apart(session: MeterSession) -> None:
    from metering.vllm_plugin.stat_logger import EnergyStatLogger  # noqa: PLC0415  # slow

    first, second = (EnergyStatLogger(config_of(2), index) for index in (0, 1))
    assert (first._engine, second._engine) == (0, 1)
    assert session.meter is not None
    assert session.meter.engines == 2
    assert session.telemetry()["source"] == "replay"


def test_more_engines_than_announced_make_energy_unknown_with_the_reason(session: MeterSession) -> None:
    from metering.vllm_plugin.stat_logger import EnergyStatLogger  # noqa: PLC0415  # slow

    for index in (0, 1):
        EnergyStatLogger(config_of(1), index)
    assert session.telemetry()["source"] is None
    assert b"2 engines run" in session.unknown_block()
