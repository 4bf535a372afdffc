"""Energy caps on the real engine: every API ends a capped request in its own words, near its cap; the parts add up."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.e2e.figures import show
from tests.e2e.wattline_process import WattlineProcess, counter_microjoules, microjoules, parts_microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
TALE = [{"role": "user", "content": "Tell me a very long story of a lighthouse."}]
ENDLESS = {"model": "smollm2", "ignore_eos": True}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: ENDLESS | {"messages": TALE, "max_tokens": 1500},
    COMPLETIONS: ENDLESS | {"prompt": "Once upon a time", "max_tokens": 1500},
    RESPONSES: ENDLESS | {"input": "Tell me a very long story.", "max_output_tokens": 1500},
    # Anthropic's form has no ignore_eos; without chance the model has more to tell than any cap here lets it.
    MESSAGES: ENDLESS | {"messages": TALE, "max_tokens": 1500, "temperature": 0},
}
CAP_STEPS = 40
TOLERANCE = 0.05


@dataclass(slots=True)
class Capped:
    """What came back to a caller."""

    energy: dict[str, Any]
    reasons: list[str | None] = field(default_factory=list)
    output_tokens: int | None = None

    def check(self, cap_joules: float) -> None:
        assert self.energy["max_energy_joules"] == cap_joules
        assert self.energy["max_energy_reached"] is True
        assert self.energy["energy_joules"] == pytest.approx(cap_joules, rel=TOLERANCE)
        if self.output_tokens is not None:
            assert self.energy["output_tokens"] == self.output_tokens


@pytest.fixture(scope="module")
def cap_joules(server: WattlineProcess) -> float:
    """A cap worth forty steps of a request alone on this machine."""
    answer = ask(server, COMPLETIONS, max_tokens=41)
    decode = answer.energy["decode_joules"] / 40
    cap: float = round(CAP_STEPS * decode + answer.energy["prefill_joules"], 2)
    show(f"a step alone costs {decode:.3f} J; the cap is {cap} J")
    return cap


def read(path: str, response: httpx.Response, *, stream: bool) -> Capped:
    assert response.status_code == 200, response.text
    if not stream:
        return _whole(path, response.json())
    events = response.text.split("\n\n")
    (comment,) = [event for event in events if event.startswith(": energy ")]
    answer = Capped(json.loads(comment.removeprefix(": energy ")))
    for event in events:
        data = event.rpartition("data: ")[2]
        if data.startswith("{"):
            _take_event(path, json.loads(data), answer)
    return answer


def _whole(path: str, body: dict[str, Any]) -> Capped:
    energy, usage = body["energy"], body["usage"]
    if path == RESPONSES:
        return Capped(energy, [body["status"], body["incomplete_details"]["reason"]], usage["output_tokens"])
    if path == MESSAGES:
        return Capped(energy, [body["stop_reason"]], usage["output_tokens"])
    return Capped(energy, [choice["finish_reason"] for choice in body["choices"]], usage["completion_tokens"])


def _take_event(path: str, event: dict[str, Any], answer: Capped) -> None:
    # At a length limit of its own, too, vLLM calls the last event completed; the response in it says incomplete.
    if path == RESPONSES and event["type"] in {"response.completed", "response.incomplete"}:
        response = event["response"]
        answer.reasons = [response["status"], response["incomplete_details"]["reason"]]
        answer.output_tokens = response["usage"]["output_tokens"]
    elif path == MESSAGES and event["type"] == "message_delta":
        answer.reasons.append(event["delta"]["stop_reason"])
        answer.output_tokens = event["usage"]["output_tokens"]
    elif path in {CHAT, COMPLETIONS}:
        answer.reasons += [choice["finish_reason"] for choice in event["choices"] if choice.get("finish_reason")]
        if event.get("usage"):
            answer.output_tokens = event["usage"]["completion_tokens"]


def ask(server: WattlineProcess, path: str, **options: Any) -> Capped:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        response = client.post(path, json=BODIES[path] | options)
    return read(path, response, stream=bool(options.get("stream")))


def settled(server: WattlineProcess) -> dict[str, Any]:
    """The engine's report once nothing runs or is owed, and the books are no further than the counter."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        report = server.worker_energy()
        owed = sum(sum(part.values()) for part in report["in_flight_microjoules"].values())
        if not (owed or report["running_requests"] or report["extrapolated_microjoules"]):
            return report
        time.sleep(0.05)
    pytest.fail("the engine did not come to rest")


def grown(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """By how much each account rose, over all components; the parts must add up to the counter's own rise."""
    rises: dict[str, int] = {}
    for component, accounts in after["accounts_microjoules"].items():
        for name, energy in accounts.items():
            rises[name] = rises.get(name, 0) + energy - before["accounts_microjoules"][component][name]
    assert sum(rises.values()) == after["counter_microjoules"] - before["counter_microjoules"]
    return rises


REASONS: dict[str, list[str | None]] = {
    CHAT: ["length"],
    COMPLETIONS: ["length"],
    RESPONSES: ["incomplete", "max_output_tokens"],
    MESSAGES: ["max_tokens"],
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", list(REASONS))
def test_every_api_ends_a_capped_request_in_its_own_words(
    server: WattlineProcess, cap_joules: float, path: str, *, stream: bool
) -> None:
    before = settled(server)
    options = {"stream_options": {"include_usage": True}} if stream and path in {CHAT, COMPLETIONS} else {}
    answer = ask(server, path, max_energy_joules=cap_joules, stream=stream, **options)
    spent = answer.energy["energy_joules"]
    show(
        f"{path:<22} {answer.energy['output_tokens']:>4} tokens {spent:>9.4f} J {100 * (spent / cap_joules - 1):+.2f} %"
    )
    assert answer.reasons == REASONS[path]
    assert answer.output_tokens is not None
    answer.check(cap_joules)
    rises = grown(before, settled(server))
    assert rises["prefill"] + rises["decode"] == microjoules(spent)
    assert rises["unattributed"] < 0.01 * microjoules(spent)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_two_choices_end_together(server: WattlineProcess, cap_joules: float, *, stream: bool) -> None:
    answer = ask(server, CHAT, max_energy_joules=cap_joules, n=2, stream=stream)
    assert answer.reasons == ["length", "length"]
    answer.check(cap_joules)


def test_two_prompts_end_together(server: WattlineProcess, cap_joules: float) -> None:
    answer = ask(server, COMPLETIONS, max_energy_joules=cap_joules, prompt=["The sun", "The sea"])
    assert answer.reasons == ["length", "length"]
    answer.check(cap_joules)


def test_the_engine_takes_the_cap_as_a_header_too_and_the_smaller_counts(
    server: WattlineProcess, cap_joules: float
) -> None:
    (engine,) = server.engines()
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(engine.socket_path)), timeout=60) as client:
        response = client.post(
            f"http://engine{CHAT}",
            json=BODIES[CHAT] | {"max_energy_joules": 10 * cap_joules},
            headers={"X-Max-Energy-Joules": str(cap_joules)},
        )
    answer = read(CHAT, response, stream=False)
    assert answer.reasons == ["length"]
    answer.check(cap_joules)


def test_a_prompt_dearer_than_its_cap_gets_one_token(server: WattlineProcess) -> None:
    answer = ask(server, COMPLETIONS, max_energy_joules=0.001, max_tokens=50, prompt="lorem ipsum " * 200)
    assert (answer.reasons, answer.output_tokens) == (["length"], 1)
    assert answer.energy["max_energy_reached"] is True


def test_a_request_that_ends_before_says_so(server: WattlineProcess, cap_joules: float) -> None:
    answer = ask(server, CHAT, max_energy_joules=100 * cap_joules, max_tokens=8)
    assert (answer.output_tokens, answer.energy["max_energy_reached"]) == (8, False)


@pytest.mark.parametrize("path", list(BODIES))
def test_what_is_no_cap_is_refused_by_name(server: WattlineProcess, path: str) -> None:
    with httpx.Client(base_url=server.url, timeout=10) as client:
        response = client.post(path, json=BODIES[path] | {"max_energy_joules": 0})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "max_energy_joules"


async def test_capped_and_uncapped_requests_side_by_side_add_up(server: WattlineProcess, cap_joules: float) -> None:
    before = settled(server)
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:

        async def send(path: str, **options: Any) -> Capped:
            response = await client.post(path, json=BODIES[path] | options)
            return read(path, response, stream=bool(options.get("stream")))

        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(send(COMPLETIONS, max_tokens=40 + 20 * index, stream=index % 2 == 0))
                for index in range(5)
            ]
            caps = [5.0, 5.0, cap_joules]
            capped = [
                group.create_task(send(path, max_energy_joules=cap, stream=stream))
                for cap, path, stream in zip(caps, (CHAT, COMPLETIONS, MESSAGES), (True, False, True), strict=True)
            ]
    rises = grown(before, after := settled(server))
    for cap, task in zip(caps, capped, strict=True):
        spent = task.result().energy["energy_joules"]
        tokens = task.result().energy["output_tokens"]
        show(f"cap {cap:>7.3f} J among others: {spent:>8.4f} J after {tokens} tokens {100 * (spent / cap - 1):+.2f} %")
    for cap, task in zip(caps, capped, strict=True):
        task.result().check(cap)
    answered = sum(microjoules(task.result().energy["energy_joules"]) for task in (*others, *capped))
    show(f"unattributed {rises['unattributed'] / 1e6:.4f} J of {answered / 1e6:.3f} J")
    assert answered == rises["prefill"] + rises["decode"]
    assert rises["unattributed"] < 0.01 * answered
    assert parts_microjoules(after) == counter_microjoules(after)
