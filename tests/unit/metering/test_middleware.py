"""The middleware around a small ASGI application that reports to the meter as the engine does."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest

from metering.counter import EnergyReading
from metering.meter import EnergyMeter
from metering.step import EndedSequence, EngineStep
from metering.track import CounterTrack
from metering.vllm_plugin import EnergyMiddleware
from metering.vllm_plugin import session as session_module
from metering.vllm_plugin.session import MeterSession

Send = Callable[[dict[str, Any]], Awaitable[None]]
CHUNK = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
# Steps that lasted longer than the meter has run leave nothing for idle.
LONG_SECONDS = 1000.0


@dataclass
class FakeEngine:
    """Answers every POST, after two steps of the engine that it reports to the meter.

    `late` reports them only when the event loop has turned a few times, as vLLM does with very large batches.
    """

    session: MeterSession
    status: int = 200
    content_type: bytes = b"application/json"
    body: bytes = b'{"id":"x","choices":[{"text":"hi"}]}'
    events: list[bytes] = field(default_factory=list)
    engine_id: Callable[[str], str] = "cmpl-{}-0".format
    late: bool = False
    silent: bool = False
    hold: asyncio.Event | None = None
    joules: float = 0.0
    seen_ids: list[str] = field(default_factory=list)
    both_came: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if (await receive())["type"] == "http.disconnect":  # FastAPI's answer to a body that does not come
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"error parsing the body"})
            return
        request_id = next(value.decode() for name, value in scope["headers"] if name == b"x-request-id")
        self.seen_ids.append(request_id)
        if len(self.seen_ids) == 2:
            self.both_came.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.status == 200 and not self.silent:
            self.report(request_id)
        headers = [(b"content-type", self.content_type), (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for event in self.events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"" if self.events else self.body, "more_body": False})

    def report(self, request_id: str) -> None:
        if self.late:
            asyncio.get_running_loop().call_soon(
                lambda: asyncio.get_running_loop().call_soon(self.run_steps, request_id)
            )
        else:
            self.run_steps(request_id)

    def run_steps(self, request_id: str) -> None:
        self.step(prefill=10, left=1)
        self.step(prefill=0, left=0)
        meter = meter_of(self.session)
        meter.sequence_ended(self.session.owner_of(self.engine_id(request_id)), EndedSequence(10, 10, 2, 0.01))
        meter.engine_idle(time.monotonic())

    def step(self, *, prefill: int, left: int) -> None:
        self.joules += 3
        now = spend(self.session, self.joules)
        first = 1 if prefill else 0
        meter_of(self.session).step(
            EngineStep(now, 2 * LONG_SECONDS, prefill, 1 - first, first, prefill, None if first else 0.01, left)
        )


def meter_of(session: MeterSession) -> EnergyMeter:
    assert session.meter is not None
    return session.meter


def spend(session: MeterSession, joules: float) -> float:
    """Have the counter say so, now; returns the instant."""
    now = time.monotonic()
    meter_of(session).tracks[0].observe(EnergyReading(now, round(joules * 1e6)))
    return now


def make_session(tmp_path: Path, source: str) -> MeterSession:
    recording = tmp_path / "recording.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n3600,gpu,1\n")
    session = MeterSession({"WATTLINE_METER": source.format(recording)})
    if session._sampler is not None:
        session._sampler.stop()
    if session.meter is not None and session.meter.source == "replay":
        session.meter = steady(session.meter)
    return session


def steady(meter: EnergyMeter) -> EnergyMeter:
    """A meter whose counter has stood still for so long that nothing is extrapolated past what a test has it say."""
    track = CounterTrack(meter.tracks[0].info)
    track.observe(EnergyReading(time.monotonic() - LONG_SECONDS, 0))
    steady_meter = EnergyMeter([track])
    steady_meter.engine_ready(0.0)
    return steady_meter


@pytest.fixture
def session(tmp_path: Path) -> MeterSession:
    return make_session(tmp_path, "replay:{}")


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], EnergyMiddleware]]:
    """A middleware over an application, in the place of this process's own session."""
    before = set(REGISTRY._collector_to_names)

    def build(app: Any) -> EnergyMiddleware:
        monkeypatch.setitem(session_module._sessions, os.getpid(), app.session)
        return EnergyMiddleware(app)

    yield build
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


Wrap = Callable[[Any], EnergyMiddleware]


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    bodies: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def energy(self) -> dict[str, Any]:
        block: dict[str, Any] = json.loads(self.body)["energy"]
        return block


async def ask(
    app: EnergyMiddleware,
    path: str = "/v1/completions",
    method: str = "POST",
    request_id: bytes | None = None,
    receive: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    state: Any = None,
    body: bytes = b"{}",
) -> Answer:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [] if request_id is None else [(b"x-request-id", request_id)]
    scope = {"type": "http", "path": path, "method": method, "headers": headers, "app": SimpleNamespace(state=state)}
    await app(scope, receive or nothing, send)
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), bodies)


async def test_a_body_gains_the_energy_that_was_booked(session: MeterSession, wrap: Wrap) -> None:
    answer = await ask(wrap(FakeEngine(session)))
    (record,) = meter_of(session).recent
    assert answer.energy["energy_joules"] == record.microjoules / 1e6
    assert (answer.energy["prefill_joules"], answer.energy["decode_joules"]) == (3.0, 3.0)
    assert answer.headers[b"x-energy-joules"] == b"6.000000"
    assert answer.headers[b"x-energy-source"] == b"replay"
    assert answer.headers[b"content-length"] == b"%d" % len(answer.body)
    assert answer.body.startswith(b'{"id":"x","choices":[{"text":"hi"}],"energy":{')


async def test_a_stream_passes_as_it_comes_and_ends_with_the_comment(session: MeterSession, wrap: Wrap) -> None:
    engine = FakeEngine(session, content_type=b"text/event-stream; charset=utf-8", events=[CHUNK, DONE])
    answer = await ask(wrap(engine))
    assert answer.bodies[0] == CHUNK
    comment, _, done = answer.bodies[1].partition(b"\n\n")
    assert done == DONE
    assert json.loads(comment.removeprefix(b": energy "))["energy_joules"] == 6.0
    assert meter_of(session).totals.completed == 1


async def test_a_usage_chunk_and_the_comment_say_the_same(session: MeterSession, wrap: Wrap) -> None:
    answer = await ask(wrap(FakeEngine(session, content_type=b"text/event-stream", events=[USAGE, DONE])))
    usage = json.loads(answer.bodies[0].removeprefix(b"data: "))
    assert usage["energy"] == json.loads(answer.bodies[1].partition(b"\n\n")[0].removeprefix(b": energy "))


@pytest.mark.parametrize("stream", [True, False])
async def test_statistics_that_come_after_the_last_byte_are_waited_for(
    session: MeterSession, wrap: Wrap, *, stream: bool
) -> None:
    engine = FakeEngine(session, late=True)
    if stream:
        engine.content_type, engine.events = b"text/event-stream", [CHUNK, DONE]
    answer = await ask(wrap(engine))
    assert b'"energy_joules":6.0' in answer.body


async def test_energy_that_the_engine_did_not_report_is_unknown_and_not_zero(session: MeterSession, wrap: Wrap) -> None:
    answer = await ask(wrap(FakeEngine(session, silent=True)))
    assert answer.energy["energy_joules"] is None
    assert "reported no work" in answer.energy["reason"]
    assert b"x-energy-joules" not in answer.headers


async def test_a_body_that_is_no_object_stays_as_it_is(session: MeterSession, wrap: Wrap) -> None:
    answer = await ask(wrap(FakeEngine(session, content_type=b"text/plain", body=b"1\n00:00 subtitles")))
    assert answer.body == b"1\n00:00 subtitles"
    assert answer.headers[b"x-energy-joules"] == b"6.000000"


@pytest.mark.parametrize(("given", "kept"), [(b"job-12", True), (b"", False), (b"a b", False), (b"x" * 129, False)])
async def test_the_callers_id_is_used_where_it_can_be(
    session: MeterSession, wrap: Wrap, given: bytes, *, kept: bool
) -> None:
    engine = FakeEngine(session)
    await ask(wrap(engine), request_id=given)
    (record,) = meter_of(session).recent
    assert engine.seen_ids == [record.request_id]
    assert (record.request_id == given.decode()) is kept
    assert record.microjoules == 6_000_000


async def test_two_in_flight_that_share_an_id_are_told_apart(session: MeterSession, wrap: Wrap) -> None:
    engine = FakeEngine(session, hold=asyncio.Event())
    app = wrap(engine)
    both = [asyncio.create_task(ask(app, request_id=b"same")) for _ in range(2)]
    await engine.both_came.wait()
    assert engine.hold is not None
    engine.hold.set()
    answers = await asyncio.gather(*both)
    assert engine.seen_ids[0] == "same"
    assert engine.seen_ids[1].startswith("same.")
    assert [answer.energy["energy_joules"] for answer in answers] == [6.0, 6.0]


async def test_an_error_passes_untouched_and_leaves_no_record(session: MeterSession, wrap: Wrap) -> None:
    answer = await ask(wrap(FakeEngine(session, status=400, body=b'{"error":{}}')))
    assert (answer.status, answer.body) == (400, b'{"error":{}}')
    meter = meter_of(session)
    assert (list(meter.recent), meter.open_requests, meter.totals.aborted) == ([], 0, 0)


async def test_a_caller_that_leaves_in_mid_stream_is_charged_as_aborted(session: MeterSession, wrap: Wrap) -> None:
    stats = SimpleNamespace(num_generation_tokens=1, first_token_ts=5.0, last_token_ts=5.0)
    live: dict[str, Any] = {}
    state = SimpleNamespace(engine_client=SimpleNamespace(output_processor=SimpleNamespace(request_states=live)))

    class Leaving(FakeEngine):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
            self.step(prefill=10, left=1)
            for number, name in enumerate(("chatcmpl-mine", "chatcmpl-other")):
                live[str(number)] = SimpleNamespace(
                    external_req_id=name, prompt_len=10, num_cached_tokens=0, is_prefilling=False, stats=stats
                )
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            assert (await receive())["type"] == "http.disconnect"

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    engine = Leaving(session)
    await ask(wrap(engine), "/v1/chat/completions", request_id=b"mine", receive=leave, state=state)
    meter = meter_of(session)
    assert meter.knows("mine")
    engine.step(prefill=0, left=0)
    meter.engine_idle(time.monotonic())
    (record,) = meter.recent
    assert (record.request_id, record.outcome, record.microjoules) == ("mine", "aborted", 6_000_000)
    assert (meter.totals.aborted, meter.open_requests) == (1, 0)


async def test_an_application_that_fails_leaves_nothing_open(session: MeterSession, wrap: Wrap) -> None:
    class Failing(FakeEngine):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await ask(wrap(Failing(session)))
    assert (meter_of(session).open_requests, meter_of(session).totals.aborted) == (0, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_responses_api_is_known_by_an_id_of_its_own(
    session: MeterSession, wrap: Wrap, *, stream: bool
) -> None:
    body = b'{"id":"resp_a1","metadata":{"id":"resp_b2"},"usage":{"input_tokens":10}}'
    engine = FakeEngine(session, body=body, engine_id=lambda _: "resp_a1_0", late=True)
    if stream:
        engine.content_type = b"text/event-stream"
        engine.events = [
            b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_a1"}}\n\n',
            b'event: response.completed\ndata: {"type":"response.completed","response":' + body + b"}\n\n",
        ]
    answer = await ask(wrap(engine), "/v1/responses")
    assert answer.body.count(b'"energy_joules":6.0') == (2 if stream else 1)
    assert not meter_of(session)._unclaimed


async def test_energy_tells_accounts_that_add_up(session: MeterSession, wrap: Wrap) -> None:
    app = wrap(FakeEngine(session))
    await ask(app)
    report = json.loads((await ask(app, "/energy", "GET")).body)
    booked = sum(report["accounts_microjoules"]["gpu"].values()) + sum(report["in_flight_microjoules"]["gpu"].values())
    assert booked == report["counter_microjoules"] + report["extrapolated_microjoules"]
    assert report["requests_total"] == {"completed": 1, "aborted": 0}
    assert report["recent_requests"][0]["prefill_microjoules"] == 3_000_000
    assert report["instance_id"] == session.instance_id


async def test_the_metrics_page_is_brought_up_to_date_before_it_is_read(session: MeterSession, wrap: Wrap) -> None:
    class Page(FakeEngine):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
            if scope["path"] == "/metrics":
                self.body = await asyncio.to_thread(generate_latest)
                scope["headers"] = [(b"x-request-id", b"none")]
                self.silent = True
            await super().__call__(scope, receive, send)

    app = wrap(Page(session))
    await ask(app)
    page = (await ask(app, "/metrics", "GET")).body.decode()
    assert 'account="prefill",component="gpu",model="",worker="vllm"} 3.0' in page
    assert 'account="decode",component="gpu",model="",worker="vllm"} 3.0' in page


async def test_without_a_meter_the_block_is_null_and_says_why(tmp_path: Path, wrap: Wrap) -> None:
    session = make_session(tmp_path, "rapl")
    app = wrap(FakeEngine(session, silent=True))
    answer = await ask(app)
    assert answer.energy["energy_joules"] is None
    assert "rapl" in answer.energy["reason"]
    assert b"x-energy-joules" not in answer.headers
    assert json.loads((await ask(app, "/energy", "GET")).body)["source"] is None


async def test_the_estimate_is_told_as_such(tmp_path: Path, wrap: Wrap) -> None:
    session = make_session(tmp_path, "estimate")
    meter = meter_of(session)
    spent = meter.confirmed_microjoules() / 1e6
    answer = await ask(wrap(FakeEngine(session, joules=spent)))
    assert (answer.energy["source"], answer.energy["measured"]) == ("estimate", False)
    assert answer.energy["energy_joules"] > 0


async def test_a_cap_on_an_engine_that_cannot_end_requests_says_so_in_the_block(
    session: MeterSession, wrap: Wrap
) -> None:
    spend(session, 1e-6)  # a counter that answers
    answer = await ask(wrap(FakeEngine(session)), body=b'{"max_energy_joules":5}')
    assert answer.energy["energy_joules"] == pytest.approx(6.0, abs=1e-5)
    assert answer.energy["max_energy_joules"] == 5.0
    assert answer.energy["max_energy_reached"] is None
    assert "vLLM has no output_processor" in answer.energy["max_energy_reason"]
    assert session.caps.end("anything") == {}


async def test_a_cap_on_energy_that_stays_unknown_has_the_same_reason(session: MeterSession, wrap: Wrap) -> None:
    spend(session, 1e-6)  # a counter that answers
    answer = await ask(wrap(FakeEngine(session, silent=True)), body=b'{"max_energy_joules":5}')
    assert answer.energy["energy_joules"] is None
    assert answer.energy["max_energy_reached"] is None


async def test_a_cap_that_is_none_is_refused_before_the_engine_sees_it(session: MeterSession, wrap: Wrap) -> None:
    engine = FakeEngine(session)
    answer = await ask(wrap(engine), body=b'{"max_energy_joules":0}')
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "invalid_value")
    assert engine.seen_ids == []
    assert meter_of(session).open_requests == 0


async def test_a_cap_is_refused_where_energy_is_not_known(session: MeterSession, wrap: Wrap) -> None:
    app = wrap(FakeEngine(session))
    answer = await ask(app, body=b'{"max_energy_joules":5}')  # its counter has not moved
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "energy_cap_unavailable")
    meter = meter_of(session)
    assert (list(meter.recent), meter.open_requests, meter.totals.aborted) == ([], 0, 0)
    session.fail("no counter for this test")
    answer = await ask(app, body=b'{"max_energy_joules":5}')
    assert "no counter for this test" in json.loads(answer.body)["error"]["message"]


@pytest.mark.parametrize(("path", "method"), [("/v1/models", "GET"), ("/tokenize", "POST"), ("/v1/completions", "GET")])
async def test_other_routes_are_not_touched(session: MeterSession, wrap: Wrap, path: str, method: str) -> None:
    answer = await ask(wrap(FakeEngine(session, silent=True)), path, method, request_id=b"a b")
    assert answer.body == b'{"id":"x","choices":[{"text":"hi"}]}'
    assert not meter_of(session).recent


async def test_what_is_no_http_passes(session: MeterSession, wrap: Wrap) -> None:
    scopes: list[str] = []

    class Lifespan(FakeEngine):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            scopes.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return None

    await wrap(Lifespan(session))({"type": "lifespan"}, nothing, nothing)
    assert scopes == ["lifespan"]
