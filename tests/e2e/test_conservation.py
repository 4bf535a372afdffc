"""The parts add up: what responses said, what accounts hold and what the counter counted are the same joules."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.e2e.figures import show
from tests.e2e.wattline_process import (
    REQUEST_ACCOUNTS,
    Metrics,
    WattlineProcess,
    counter_microjoules,
    microjoules,
    parts_microjoules,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
CHARGED_SECONDS = 1.0


@dataclass(slots=True)
class Snapshot:
    """The server's page and its engine's own report of the same instant, with nothing running."""

    metrics: Metrics
    report: dict[str, Any]

    @property
    def accounts(self) -> dict[str, int]:
        return self.metrics.accounts_microjoules()

    @property
    def tenants(self) -> int:
        return microjoules(self.metrics.total("wattline_tenant_energy_joules_total"))


@dataclass(slots=True)
class Load:
    """What came back to the callers of a load."""

    energy_microjoules: list[int] = field(default_factory=list)
    cut_off: int = 0


def chat(text: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "smollm2", "messages": [{"role": "user", "content": text}]} | options


def completion(prompt: str | list[str], **options: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"model": "smollm2", "prompt": prompt} | options


def mixed_requests() -> list[tuple[str, dict[str, Any]]]:
    """Twenty-eight requests of every kind, in an order that mixes them."""
    endless = {"ignore_eos": True}
    kinds: list[Callable[[int], tuple[str, dict[str, Any]]]] = [
        lambda i: chat(f"Tell me of the number {i}.", max_tokens=16 + i),
        lambda i: chat(f"Name {i} birds.", max_tokens=24, stream=True),
        lambda i: completion(f"{i} and one is", max_tokens=1),
        lambda i: chat(f"Greet {i} people.", max_tokens=20, n=2, **endless),
        lambda i: completion([f"The {i}th day", f"The {i}th night"], max_tokens=12, stream=True, **endless),
        lambda i: completion(f"Number {i}: " + "lorem ipsum dolor " * 120, max_tokens=8, stream=True),
        lambda i: chat(
            f"Count from {i}.", max_tokens=40, stop=["e"], stream_options={"include_usage": True}, stream=True
        ),
    ]
    return [kind(4 * round_ + 1) for round_ in range(4) for kind in kinds]


async def ask(client: httpx.AsyncClient, load: Load, path: str, body: dict[str, Any]) -> None:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    if body.get("stream"):
        comment = response.text.split("\n\n")[-3]
        energy = json.loads(comment.removeprefix(": energy "))
    else:
        energy = response.json()["energy"]
    load.energy_microjoules.append(microjoules(energy["energy_joules"]))


async def cut_off(client: httpx.AsyncClient, load: Load, path: str, body: dict[str, Any], events: int) -> None:
    """Ask for a long stream and close the connection after some of its events."""
    async with client.stream("POST", path, json=body | {"stream": True}) as response:
        lines = response.aiter_lines()
        for _ in range(2 * events):
            await anext(lines)
    load.cut_off += 1


async def eventually(condition: Callable[[], Awaitable[bool]], timeout_seconds: float) -> float:
    """Wait for a condition; returns how many seconds it took."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < timeout_seconds
        await asyncio.sleep(0.05)
    return time.monotonic() - started


async def quiescent(server: WattlineProcess) -> Snapshot:
    """Wait until nothing runs or is owed and the books are no further than the counter, and look.

    The counter is sampled 20 times a second: a page asked for between two equal reports is of the same instant.
    """

    async def nothing_in_flight() -> bool:
        report = server.worker_energy()
        parts = report["in_flight_microjoules"].values()
        is_read = report["extrapolated_microjoules"] == 0
        return is_read and report["running_requests"] == 0 and not any(sum(part.values()) for part in parts)

    await eventually(nothing_in_flight, 20)
    for _ in range(20):
        before, metrics, after = server.worker_energy(), server.metrics(), server.worker_energy()
        if before["counter_microjoules"] == after["counter_microjoules"]:
            return Snapshot(metrics, after)
    pytest.fail("an idle engine's counter was sampled between every two looks at it")


def say(what: str, *microjoules_: int) -> None:
    show(f"{what:<58}" + "".join(f"{value / 1e6:>15.6f} J" for value in microjoules_))


async def test_requests_add_up_to_the_accounts_and_accounts_to_the_counter(server: WattlineProcess) -> None:
    load = Load()
    before = await quiescent(server)
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        await send_mixed_load(client, load, server)
    after = await quiescent(server)
    assert len(load.energy_microjoules) + load.cut_off == 30

    grown = {name: after.accounts[name] - before.accounts[name] for name in after.accounts}
    of_requests = sum(grown[name] for name in REQUEST_ACCOUNTS)
    answered = sum(load.energy_microjoules)
    charged = after.tenants - before.tenants
    counted = after.report["counter_microjoules"] - before.report["counter_microjoules"]
    aborted = after.report["requests_microjoules"]["aborted"] - before.report["requests_microjoules"]["aborted"]
    say("energy_joules of the 28 responses", answered)
    say("charged for the 2 that were cut off", charged - answered, aborted)
    say("tenants' total, accounts prefill + decode", charged, of_requests)
    for name, value in grown.items():
        say(f"account {name}", value)
    say("all accounts, counter", sum(grown.values()), counted)

    assert aborted > 0
    assert answered + aborted == charged == of_requests
    assert sum(grown.values()) == counted
    assert grown["loading"] == 0
    assert grown["unattributed"] < 0.05 * of_requests


async def send_mixed_load(client: httpx.AsyncClient, load: Load, server: WattlineProcess) -> None:
    """Thirty requests, six at once, two of them cut off in mid-generation; the law is checked at instants between."""
    slots = asyncio.Semaphore(6)

    async def in_turn(work: Awaitable[None]) -> None:
        async with slots:
            await work

    async def check_law() -> None:
        while True:
            report = await asyncio.to_thread(server.worker_energy)
            assert parts_microjoules(report) == counter_microjoules(report)
            await asyncio.sleep(0.1)

    works = [ask(client, load, path, body) for path, body in mixed_requests()]
    long = {"max_tokens": 600, "ignore_eos": True}
    works.insert(5, cut_off(client, load, *chat("Tell me a long story.", **long), events=10))
    works.insert(20, cut_off(client, load, *completion("Once upon a time", n=2, **long), events=16))
    law = asyncio.create_task(check_law())
    await asyncio.gather(*(in_turn(work) for work in works))
    assert not law.done(), law.exception()
    law.cancel()


async def test_the_law_holds_to_the_microjoule_in_the_engines_own_report(server: WattlineProcess) -> None:
    snapshot = await quiescent(server)
    total, parts = sum(snapshot.accounts.values()), parts_microjoules(snapshot.report)
    say("accounts on the server's page, engine's parts, counter", total, parts, counter_microjoules(snapshot.report))
    assert total == parts == counter_microjoules(snapshot.report)
    assert snapshot.report["counter_epochs"] == 1
    assert snapshot.report["sampler_failures"] == 0


@pytest.mark.parametrize(
    "options", [{"stream": True}, {"stream": True, "n": 2}, {"stream": False}], ids=["stream", "two choices", "whole"]
)
async def test_a_caller_that_leaves_frees_the_engine_and_is_charged(
    server: WattlineProcess, options: dict[str, Any]
) -> None:
    before = await quiescent(server)
    _, body = chat("Tell me a very long story.", max_tokens=1500, ignore_eos=True, **options)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await client.post(CHAT, json=body)

    async def nothing_runs_and_charged() -> bool:
        page = server.metrics()
        running = page.total("wattline_worker_running_requests")
        charged = microjoules(page.total("wattline_tenant_energy_joules_total"))
        return running == 0 and charged > before.tenants

    seconds = await eventually(nothing_runs_and_charged, CHARGED_SECONDS)
    after = await quiescent(server)
    charged = after.tenants - before.tenants
    show(f"free and charged {seconds:.2f} s after the caller left: {charged / 1e6:.6f} J")
    accounts = sum(after.accounts[name] - before.accounts[name] for name in REQUEST_ACCOUNTS)
    assert charged == accounts
    outcomes = {"endpoint": CHAT, "outcome": "aborted"}
    assert after.metrics.total("wattline_requests_total", **outcomes) == 1 + before.metrics.total(
        "wattline_requests_total", **outcomes
    )
