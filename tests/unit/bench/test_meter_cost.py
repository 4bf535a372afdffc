"""What the meter costs is measured on a meter that works, and the delay is the meter's, not the application's."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from bench.bookkeeping import BookkeepingResult, MemoryResult, measure_memory, measure_steps
from bench.comparison import Comparison
from bench.delay_probe import App, Inner, Message, Outer, Receive, Scope, Send
from bench.meter_cost import DelayResult, MeterCostResult, format_result, main

POST = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
DELAYS = {"type": "http", "method": "GET", "path": "/delays", "headers": []}


def result(delays: tuple[DelayResult, ...] = (), throughput: Comparison | None = None) -> MeterCostResult:
    steps = BookkeepingResult(
        running_sequences=256,
        counters=4,
        steps=100,
        median_seconds=18.8e-6,
        p99_seconds=32.9e-6,
        request_median_seconds=9.0e-6,
    )
    memory = MemoryResult(warm_up_seconds=300.0, simulated_seconds=3600.0, grown_bytes=-2500, peak_bytes=1_250_000)
    return MeterCostResult((steps,), memory, throughput, delays)


class Application:
    """Answers in several messages, each of which takes it a while."""

    def __init__(self, bodies: Sequence[bytes], seconds: float = 0.0) -> None:
        self._bodies = bodies
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for index, body in enumerate(self._bodies):
            await asyncio.sleep(self._seconds)
            await send({"type": "http.response.body", "body": body, "more_body": index + 1 < len(self._bodies)})


class HoldsBack:
    """A middleware that lets one message wait."""

    def __init__(self, app: App, held: bytes, seconds: float) -> None:
        self._app = app
        self._held = held
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def forward(message: Message) -> None:
            if message.get("body") == self._held:
                await asyncio.sleep(self._seconds)
            await send(message)

        await self._app(scope, receive, forward)


async def ask(app: App, scope: dict[str, Any]) -> bytes:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(dict(scope), receive, send)
    return b"".join(message.get("body", b"") for message in sent)


async def delays_of(app: App) -> list[float]:
    told: list[float] = json.loads(await ask(app, DELAYS))
    return told


async def test_delay_is_the_longest_that_a_message_was_held_between_the_probes() -> None:
    app = Outer(HoldsBack(Inner(Application([b"a", b"b", b""])), held=b"b", seconds=0.02))
    assert await ask(app, POST) == b"ab"
    (held,) = await delays_of(app)
    assert held >= 0.02


async def test_time_the_application_takes_is_no_delay() -> None:
    app = Outer(Inner(Application([b"a", b"b"], seconds=0.05)))
    assert await ask(app, POST) == b"ab"
    (held,) = await delays_of(app)
    assert 0 <= held < 0.05


async def test_only_requests_that_post_are_told_of() -> None:
    app = Outer(Inner(Application([b"page"])))
    await ask(app, POST | {"method": "GET", "path": "/metrics"})
    await ask(app, POST)
    await ask(app, POST)
    assert len(await delays_of(app)) == 2


@pytest.mark.parametrize("counters", [1, 4])
def test_bookkeeping_is_timed_over_the_steps_asked_for(counters: int) -> None:
    measured = measure_steps(running=8, counters=counters, steps=50)
    assert (measured.running_sequences, measured.counters, measured.steps) == (8, counters, 50)
    assert 0 < measured.median_seconds <= measured.p99_seconds
    assert measured.request_median_seconds > 0


def test_memory_of_a_meter_in_steady_traffic_does_not_grow_with_it() -> None:
    # After the two minutes of readings a track keeps; what has been seen once must not be kept for good.
    measured = measure_memory(simulated_seconds=10.0, warm_up_seconds=125.0)
    assert measured.simulated_seconds == 10.0
    assert measured.peak_bytes > 10_000
    assert abs(measured.grown_bytes) < 100_000


def test_report_gives_units_and_the_ratio_of_every_round() -> None:
    throughput = Comparison("output tokens/s", direct=(200.0, 100.0), through=(198.0, 101.0), errors=0)
    delay = DelayResult(kind="whole", answers=208, median_seconds=0.0003, p99_seconds=0.0011)
    text = format_result(result((delay,), throughput))
    assert "256 running sequences, 4 counter(s): median 18.8 us, p99 32.9 us" in text
    assert "-0.003 MB" in text
    assert "0.990, 1.010" in text
    assert "added delay of 208 whole answers: median 0.300 ms, p99 1.100 ms" in text


def test_what_was_not_measured_is_null() -> None:
    told = result().as_json()
    assert told["output_tokens_per_second"] is None
    assert told["added_delay"] == []
    assert told["bookkeeping"][0]["counters"] == 4
    assert told["memory"]["grown_bytes"] == -2500


def test_a_model_that_is_not_there_stops_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "/nowhere/at/all"])
    assert stopped.value.code == 2
    assert "/nowhere/at/all" in capsys.readouterr().err
