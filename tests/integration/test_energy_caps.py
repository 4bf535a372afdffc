"""Caps kept over vLLM's own output processor, with an engine that schedules ahead as vLLM's does. Virtual time."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metering.block import RequestEnergy
from metering.counter import EnergyReading
from metering.meter import EnergyMeter
from metering.track import CounterTrack
from metering.vllm_plugin import session as session_module
from metering.vllm_plugin.caps import EnergyCaps
from metering.vllm_plugin.session import MeterSession

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [
    pytest.mark.timeout(120),  # importing vLLM takes ten seconds and more
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # raised by what vLLM imports
]

STEP_SECONDS = 0.1
STEP_JOULES = 1.0
PROMPT_TOKENS = 8


class Clock:
    """The stat logger's time, which passes with the engine's steps."""

    now_seconds = 0.0

    def monotonic(self) -> float:
        return self.now_seconds


@dataclass(eq=False)
class Running:
    """A sequence in the engine."""

    internal_id: str
    output_limit: int
    steps: int = 0  # that it was scheduled for
    tokens: int = 0


@dataclass
class Answer:
    """What a caller of `generate` gets."""

    queue: Any
    outputs: list[Any] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        return bool(self.outputs) and self.outputs[-1].finished

    def read(self) -> None:
        while (output := self.queue.get_nowait()) is not None:
            self.outputs.append(output)

    def reasons(self) -> dict[int, str]:
        return {one.index: one.finish_reason for output in self.outputs for one in output.outputs if one.finish_reason}

    def tokens(self, index: int = 0) -> int:
        """How many tokens of a choice were delivered, over all of its outputs."""
        return sum(len(one.token_ids) for output in self.outputs for one in output.outputs if one.index == index)


class Engine:
    """vLLM's engine core, without a model: it schedules `ahead` steps, and hears of aborts between steps.

    Every step costs 1 J.
    """

    def __init__(self, session: MeterSession, clock: Clock, *, ahead: int, room: int = 8) -> None:
        from vllm.v1.engine.output_processor import OutputProcessor  # noqa: PLC0415  # slow
        from vllm.v1.metrics import stats  # noqa: PLC0415  # slow

        from metering.vllm_plugin.stat_logger import EnergyStatLogger  # noqa: PLC0415  # slow

        self.stats, self.session, self.clock = stats, session, clock
        self.ahead, self.room = ahead, room
        self.processor = OutputProcessor(None, log_stats=True)
        core = SimpleNamespace(abort_requests_async=self.abort)
        client = SimpleNamespace(output_processor=self.processor, engine_core=core)
        self.app = SimpleNamespace(state=SimpleNamespace(engine_client=client))
        config: Any = SimpleNamespace(
            model_config=SimpleNamespace(served_model_name="tiny"),
            scheduler_config=SimpleNamespace(async_scheduling=ahead > 1),
        )
        self.logger = EnergyStatLogger(config, 0)
        self.logger.log_engine_initialized()
        self.waiting: list[Running] = []
        self.running: list[Running] = []
        self.scheduled: deque[list[tuple[Running, bool]]] = deque()
        self.aborted: set[str] = set()
        self.joules = 0.0
        self.hears_aborts = asyncio.Event()
        self.hears_aborts.set()

    async def abort(self, internal_ids: list[str]) -> None:
        await self.hears_aborts.wait()
        self.aborted.update(internal_ids)

    # -- requests ------------------------------------------------------------------------------------------------

    def ask(
        self, request_id: str, *, cap: float | None = None, stream: bool = True, n: int = 1, limit: int = 1000
    ) -> Answer:
        """A request for one prompt, by way of vLLM's own bookkeeping."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams  # noqa: PLC0415  # slow
        from vllm.v1.engine import EngineCoreRequest  # noqa: PLC0415  # slow
        from vllm.v1.engine.output_processor import RequestOutputCollector  # noqa: PLC0415  # slow
        from vllm.v1.engine.parallel_sampling import ParentRequest  # noqa: PLC0415  # slow

        assert self.session.meter is not None
        self.session.meter.request_started(request_id, self.clock.now_seconds)
        if cap is not None:
            self.session.caps.begin(request_id, cap, self.app)
        kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(n=n, max_tokens=limit, output_kind=kind, detokenize=False)
        prompt = list(range(PROMPT_TOKENS))
        core = EngineCoreRequest(f"{request_id}-internal", prompt, None, params, None, time.time(), None, None, None)
        core.external_req_id = f"chatcmpl-{request_id}"
        queue = RequestOutputCollector(kind, core.request_id)
        parent = ParentRequest(core) if n > 1 else None
        for index in range(n):
            if parent is not None:
                child_id, child_params = parent.get_child_info(index)
                core = EngineCoreRequest(child_id, prompt, None, child_params, None, time.time(), None, None, None)
                core.external_req_id = f"chatcmpl-{request_id}"
            self.processor.add_request(core, None, parent, index, queue)
            self.waiting.append(Running(core.request_id, limit))
        return Answer(queue)

    def respond(self, request_id: str) -> tuple[RequestEnergy, dict[str, Any]]:
        """The answer is whole: its energy and what its block says of the cap."""
        assert self.session.meter is not None
        energy = self.session.meter.request_ended(request_id, self.clock.now_seconds)
        return energy, self.session.caps.end(request_id)

    # -- steps ---------------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        while len(self.scheduled) < self.ahead:
            while self.waiting and len(self.running) < self.room:
                self.running.append(self.waiting.pop(0))
            batch = []
            for one in self.running:
                if one.steps < one.output_limit:
                    batch.append((one, one.steps > 0))
                    one.steps += 1
            if not batch:
                return
            self.scheduled.append(batch)

    async def step(self) -> None:
        """The oldest batch runs to its end; the next is begun before anybody hears of it."""
        from vllm.v1.engine import EngineCoreOutput, FinishReason  # noqa: PLC0415  # slow
        from vllm.v1.metrics.stats import PrefillStats  # noqa: PLC0415  # slow

        self.schedule()
        if not self.scheduled:
            return
        batch = self.scheduled.popleft()
        self.clock.now_seconds += STEP_SECONDS
        self.spend(STEP_JOULES)
        self.drop_aborted()
        outputs = []
        for one, decodes in batch:
            if one not in self.running:
                continue
            one.tokens += 1
            ends = one.tokens == one.output_limit
            prefill = None
            if not decodes:
                prefill = PrefillStats()
                prefill.set(PROMPT_TOKENS, 0, 0)
            reason = FinishReason.LENGTH if ends else None
            outputs.append(EngineCoreOutput(one.internal_id, [7], finish_reason=reason, prefill_stats=prefill))
            if ends:
                self.running.remove(one)
        left = len(self.running) + len(self.waiting)
        decoding = sum(decodes for _, decodes in batch)
        details = self.stats.SchedulerIterationDetails(
            0, len(batch) - decoding, PROMPT_TOKENS * (len(batch) - decoding), decoding, decoding, STEP_SECONDS * 1e3
        )
        scheduler = self.stats.SchedulerStats(num_running_reqs=left, iteration_details=details)
        self.schedule()
        iteration = self.stats.IterationStats() if outputs else None
        self.processor.process_outputs(outputs, self.clock.now_seconds, iteration)
        self.logger.record(scheduler, iteration)
        for _ in range(4):  # those who stop sequences run on the event loop
            await asyncio.sleep(0)

    def drop_aborted(self) -> None:
        self.running = [one for one in self.running if one.internal_id not in self.aborted]
        self.waiting = [one for one in self.waiting if one.internal_id not in self.aborted]

    def spend(self, joules: float) -> None:
        assert self.session.meter is not None
        self.joules += joules
        self.session.meter.tracks[0].observe(EnergyReading(self.clock.now_seconds, round(self.joules * 1e6)))

    # -- the law -------------------------------------------------------------------------------------------------

    def accounts(self) -> dict[str, int]:
        assert self.session.meter is not None
        (ledger,) = self.session.meter.ledgers
        assert sum(ledger.accounts.values()) + ledger.in_flight == ledger.assigned
        return dict(ledger.accounts)


class Timers:
    """Timers that a test lets fire."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        assert 0 < seconds <= 5
        self.calls.append(call)

    def fire(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr("metering.vllm_plugin.stat_logger.time", one)
    return one


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, timers: Timers) -> MeterSession:
    recording = tmp_path / "recording.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n3600,gpu,1\n")
    one = MeterSession({"WATTLINE_METER": f"replay:{recording}"})
    assert one._sampler is not None
    one._sampler.stop()
    assert one.meter is not None
    track = CounterTrack(one.meter.tracks[0].info)
    track.observe(EnergyReading(0.0, 0))
    one.meter = EnergyMeter([track])
    one.caps = EnergyCaps(one, clock=clock.monotonic, call_later=timers.call_later)
    monkeypatch.setitem(session_module._sessions, os.getpid(), one)
    return one


async def run_until(engine: Engine, answer: Answer, most_steps: int = 400) -> None:
    for _ in range(most_steps):
        await engine.step()
        answer.read()
        if answer.is_finished:
            return
    pytest.fail("the request did not end")


@pytest.fixture(params=[1, 2], ids=["in turn", "scheduled ahead"])
def engine(request: pytest.FixtureRequest, session: MeterSession, clock: Clock) -> Engine:
    return Engine(session, clock, ahead=request.param)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_request_alone_ends_at_its_cap_as_at_a_length_limit(engine: Engine, *, stream: bool) -> None:
    answer = engine.ask("a", cap=30.0, stream=stream)
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    assert answer.reasons() == {0: "length"}
    assert said == {"max_energy_joules": 30.0, "max_energy_reached": True}
    assert 28.5e6 <= energy.microjoules <= 30e6
    assert answer.tokens() == energy.output_tokens == 30 - engine.ahead
    await engine.step()
    accounts = engine.accounts()
    assert accounts["prefill"] + accounts["decode"] == energy.microjoules == round(engine.joules * 1e6)
    assert accounts["unattributed"] == 0
    assert not engine.processor.request_states
    assert not engine.processor.external_req_ids


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_both_choices_end(engine: Engine, *, stream: bool) -> None:
    answer = engine.ask("a", cap=30.0, stream=stream, n=2)
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    assert answer.reasons() == {0: "length", 1: "length"}
    assert said["max_energy_reached"] is True
    assert 28.5e6 <= energy.microjoules <= 30e6
    assert answer.tokens(0) == answer.tokens(1) == energy.output_tokens / 2
    assert engine.accounts()["unattributed"] == 0
    assert not engine.processor.parent_requests


async def test_others_go_on_and_pay_their_own(engine: Engine) -> None:
    others = [engine.ask(f"other-{index}", limit=150) for index in range(3)]
    for _ in range(5):
        await engine.step()
    answer = engine.ask("a", cap=10.0)
    await run_until(engine, answer)
    energy, _ = engine.respond("a")
    assert answer.reasons() == {0: "length"}
    assert 9.5e6 <= energy.microjoules <= 10e6
    for other in others:
        await run_until(engine, other)
    charged = [engine.respond(f"other-{index}")[0] for index in range(3)]
    await engine.step()
    assert {one.output_tokens for one in charged} == {150}
    total = energy.microjoules + sum(one.microjoules for one in charged)
    assert engine.accounts()["unattributed"] == 0
    assert total == round(engine.joules * 1e6)


async def test_a_request_that_ends_before_says_that_the_cap_was_not_reached(engine: Engine) -> None:
    answer = engine.ask("a", cap=30.0, limit=12)
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    assert said == {"max_energy_joules": 30.0, "max_energy_reached": False}
    assert energy.output_tokens == answer.tokens() == 12


async def test_a_prompt_dearer_than_the_cap_ends_with_its_first_token(engine: Engine) -> None:
    answer = engine.ask("a", cap=0.5)
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    assert answer.reasons() == {0: "length"}
    assert answer.tokens() == energy.output_tokens == 1
    assert said["max_energy_reached"] is True
    assert energy.microjoules == (1 + engine.ahead) * 1_000_000


async def test_choices_that_wait_when_the_cap_is_reached_end_without_a_token(
    session: MeterSession, clock: Clock
) -> None:
    engine = Engine(session, clock, ahead=1, room=2)
    answer = engine.ask("a", cap=10.0, n=4, stream=False)
    await run_until(engine, answer)
    energy, _ = engine.respond("a")
    assert answer.reasons() == dict.fromkeys(range(4), "length")
    assert [answer.tokens(index) > 0 for index in range(4)] == [True, True, False, False]
    assert 9e6 <= energy.microjoules <= 10e6
    await engine.step()
    assert session.meter is not None
    assert not session.meter.knows("a")
    assert session.meter.totals.aborted == 0
    assert engine.accounts()["unattributed"] == 0


async def test_an_end_that_the_engine_hears_late_is_paid_for(engine: Engine) -> None:
    answer = engine.ask("a", cap=10.0)
    engine.hears_aborts.clear()
    for _ in range(14):
        await engine.step()
    assert not answer.is_finished
    engine.hears_aborts.set()
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    await engine.step()
    assert said["max_energy_reached"] is True
    assert answer.tokens() == energy.output_tokens
    assert energy.microjoules == round(engine.joules * 1e6)
    assert engine.accounts()["unattributed"] == 0


async def test_an_engine_that_stops_before_the_step_under_way_is_not_waited_for(
    session: MeterSession, clock: Clock, timers: Timers
) -> None:
    engine = Engine(session, clock, ahead=1)
    answer = engine.ask("a", cap=10.0)
    while not timers.calls:
        await engine.step()
    answer.read()
    assert not answer.is_finished
    engine.scheduled.clear()  # it heard of the end before it began
    engine.drop_aborted()
    timers.fire()
    answer.read()
    energy, said = engine.respond("a")
    assert answer.reasons() == {0: "length"}
    assert said["max_energy_reached"] is True
    assert energy.microjoules == round(engine.joules * 1e6)
    assert engine.accounts()["unattributed"] == 0


async def test_a_caller_that_leaves_while_it_ends_is_charged_as_aborted(
    engine: Engine, session: MeterSession, timers: Timers
) -> None:
    engine.ask("a", cap=10.0)
    while not timers.calls:
        await engine.step()
    meter = session.meter
    assert meter is not None
    session.caps.end("a")
    (state,) = engine.processor.request_states.values()
    from metering.vllm_plugin.live_sequences import live_sequences  # noqa: PLC0415  # with vLLM only

    for sequence in live_sequences(engine.app, lambda _: True):
        meter.sequence_cut_off("a", sequence)
    meter.request_aborted("a", engine.clock.now_seconds)
    engine.processor.abort_requests([state.request_id], internal=True)
    for _ in range(3):
        await engine.step()
    timers.fire()
    assert meter.totals.aborted == 1
    assert meter.totals.aborted_microjoules <= round(engine.joules * 1e6)


async def test_where_vllms_insides_differ_the_cap_is_not_kept_and_says_so(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock, ahead=1)
    engine.app.state.engine_client.engine_core = SimpleNamespace()
    answer = engine.ask("a", cap=5.0, limit=20)
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    assert energy.output_tokens == 20
    assert said["max_energy_reached"] is None
    assert "engine_core.abort_requests_async" in said["max_energy_reason"]


async def test_a_fault_while_keeping_caps_leaves_the_meter_running(session: MeterSession, clock: Clock) -> None:
    engine = Engine(session, clock, ahead=1)
    answer = engine.ask("a", cap=5.0, limit=20)
    session.caps._capped["a"].cap = SimpleNamespace(max_joules=5.0, must_end=None)  # type: ignore[assignment]  # broken
    await run_until(engine, answer)
    energy, said = engine.respond("a")
    assert energy.microjoules == 20_000_000
    assert "TypeError" in said["max_energy_reason"]


async def test_an_uncapped_request_costs_nothing_to_watch(engine: Engine, session: MeterSession) -> None:
    answer = engine.ask("a", limit=10)
    await run_until(engine, answer)
    assert session.caps.end("a") == {}
    assert session.caps._sequences is None
