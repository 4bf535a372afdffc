"""Engines that do more than one token for each sequence and step: preemption, speculation, pooling, data parallelism.

Each is a real vLLM server with the meter alone. Whatever it does, every answer is told its joules and they add up.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.figures import show
from tests.e2e.stand_alone_engine import StandAlone, stand_alone_engine
from tests.e2e.wattline_process import Metrics, counter_microjoules, engine_energy, microjoules, parts_microjoules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

COMPLETIONS = "/v1/completions"
WORDS = "one two three four five six seven eight "
UNATTRIBUTED_RATIO = 0.05

Request = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Energy blocks of the answers, and what the engine's books grew by meanwhile, in microjoules."""

    blocks: list[dict[str, Any]]
    grown: dict[str, int]

    @property
    def told(self) -> int:
        return sum(microjoules(block["energy_joules"]) for block in self.blocks)


@pytest.fixture
def start(checkpoint: Path, tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[StandAlone]]:
    return lambda *arguments: stand_alone_engine(checkpoint, tmp_path / "output.log", arguments)


def ask(engine: StandAlone, request: Request) -> dict[str, Any]:
    path, body = request
    answer = engine.client.post(path, json={"model": "smollm2", **body})
    assert answer.status_code == 200, answer.text
    if body.get("stream"):
        block = json.loads(answer.text.split("\n\n")[-3].removeprefix(": energy "))
    else:
        block = answer.json()["energy"]
    assert isinstance(block, dict)
    return block


def quiescent(engine: StandAlone) -> dict[str, Any]:
    """The engine's report once nothing runs and the books are no further than the counter."""
    for _ in range(400):
        report = engine_energy(engine.socket_path)
        in_flight = sum(sum(phases.values()) for phases in report["in_flight_microjoules"].values())
        if not report["running_requests"] and not in_flight and report["extrapolated_microjoules"] == 0:
            return report
        time.sleep(0.05)
    pytest.fail(f"the engine does not come to rest: {report}")


def send(engine: StandAlone, requests: list[Request]) -> Outcome:
    """Send all at once, look at the law meanwhile, and check what every shape has in common."""
    before = quiescent(engine)
    with ThreadPoolExecutor(len(requests)) as threads:
        answers = [threads.submit(ask, engine, request) for request in requests]
        while not all(answer.done() for answer in answers):
            report = engine_energy(engine.socket_path)
            assert parts_microjoules(report) == counter_microjoules(report)
            time.sleep(0.1)
        blocks = [answer.result() for answer in answers]
    after = quiescent(engine)
    grown = {
        account: sum(
            after["accounts_microjoules"][component][account] - before["accounts_microjoules"][component][account]
            for component in after["accounts_microjoules"]
        )
        for account in ("prefill", "decode", "idle", "loading", "unattributed")
    }
    outcome = Outcome(blocks, grown)
    active = grown["prefill"] + grown["decode"]
    show(f"{len(blocks)} answers told of {outcome.told / 1e6:.6f} J; accounts {grown}")
    assert all(block["energy_joules"] > 0 for block in blocks), blocks
    assert outcome.told == active
    assert sum(grown.values()) == after["counter_microjoules"] - before["counter_microjoules"]
    assert grown["unattributed"] <= UNATTRIBUTED_RATIO * active
    return outcome


def completion(prompt: Any, max_tokens: int, **options: Any) -> Request:
    return COMPLETIONS, {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "temperature": 0, **options}


def preemptions(engine: StandAlone) -> float:
    return Metrics(engine.client.get("/metrics").text).total("vllm:num_preemptions_total")


def test_preempted_sequences_pay_for_what_is_computed_again(
    start: Callable[..., contextlib.AbstractContextManager[StandAlone]],
) -> None:
    """A cache of 12 blocks of 128 tokens, and requests that outgrow it together."""
    tight = ("--num-gpu-blocks-override", "12", "--max-num-seqs", "16", "--max-num-batched-tokens", "256")
    with start(*tight) as engine:
        growing = [completion(f"{n} " + WORDS * 12, 200, stream=bool(n % 2)) for n in range(8)]
        long = [completion(f"{n} " + WORDS * 60, 12) for n in range(3)]
        send(engine, [*growing, *long])
        happened = preemptions(engine)
        show(f"{happened:.0f} preemptions")
        assert happened > 0


def test_speculated_tokens_are_paid_by_those_they_were_for(
    start: Callable[..., contextlib.AbstractContextManager[StandAlone]],
) -> None:
    drafts = json.dumps({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3})
    with start("--speculative-config", drafts) as engine:
        repeating = [completion(WORDS * (4 + n), 40 + 5 * n, stream=bool(n % 2)) for n in range(6)]
        stopped = (COMPLETIONS, {"prompt": WORDS * 5, "max_tokens": 60, "temperature": 0, "stop": ["six"]})
        outcome = send(engine, [*repeating, stopped, completion("Water boils at", 30, n=2, temperature=0.8)])
        assert [block["output_tokens"] for block in outcome.blocks[:6]] == [40, 45, 50, 55, 60, 65]
        accepted = Metrics(engine.client.get("/metrics").text).total("vllm:spec_decode_num_accepted_tokens_total")
        show(f"{accepted:.0f} drafted tokens accepted")
        assert accepted > 0


def test_pooling_costs_prefill_only(start: Callable[..., contextlib.AbstractContextManager[StandAlone]]) -> None:
    with start("--runner", "pooling", "--convert", "embed") as engine:
        single = [("/v1/embeddings", {"input": f"{n} " + WORDS * n}) for n in range(1, 9)]
        several = ("/v1/embeddings", {"input": ["a river", "a longer river " * 20, "the sea"]})
        outcome = send(engine, [*single, several, ("/pooling", {"input": "hello there"})])
        for block in outcome.blocks:
            assert block["prefill_joules"] == block["energy_joules"]
            assert (block["decode_joules"], block["output_tokens"], block["joules_per_output_token"]) == (0, 0, None)
        assert outcome.grown["decode"] == 0
        assert outcome.blocks[8]["prompt_tokens"] > outcome.blocks[9]["prompt_tokens"]


def test_two_engines_in_one_server_share_what_they_use(
    start: Callable[..., contextlib.AbstractContextManager[StandAlone]],
) -> None:
    with start("--data-parallel-size", "2", "--data-parallel-size-local", "2") as engine:
        requests = [completion(f"{n} " + WORDS, 24 + 4 * n, stream=bool(n % 2)) for n in range(8)]
        send(engine, [*requests, completion("Once upon a time", 24, n=3, temperature=0.8)])
        page = Metrics(engine.client.get("/metrics").text)
        answered = [page.total("vllm:request_success_total", engine=str(number)) for number in range(2)]
        show(f"answered by each engine: {answered}")
        assert min(answered) > 0
        callers_that_leave_are_charged(engine)


def callers_that_leave_are_charged(engine: StandAlone) -> None:
    before = quiescent(engine)
    assert len(list(leaving(engine, 4))) == 4
    after = quiescent(engine)
    charged = after["requests_microjoules"]["aborted"] - before["requests_microjoules"]["aborted"]
    show(f"charged for 4 callers that left: {charged / 1e6:.6f} J")
    assert after["requests_total"]["aborted"] - before["requests_total"]["aborted"] == 4
    assert all(one["prefill_microjoules"] + one["decode_microjoules"] > 0 for one in after["recent_aborts"])


def leaving(engine: StandAlone, callers: int) -> Iterator[str]:
    """Callers that each read some lines of a long stream and hang up."""

    def read(number: int) -> str:
        _, body = completion(f"{number} tell a long story", 600, stream=True)
        with engine.client.stream("POST", COMPLETIONS, json={"model": "smollm2", **body}) as stream:
            lines = stream.iter_lines()
            return [next(lines) for _ in range(20)][-2]

    with ThreadPoolExecutor(callers) as threads:
        yield from threads.map(read, range(callers))
