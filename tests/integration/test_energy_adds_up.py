"""The parts add up: what callers were told, what tenants are charged and what the workers' accounts say is one sum."""

import asyncio
import itertools
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, COMPLETIONS, HELLO, PROMPT, Answer, MetricsPage, ask, metrics
from tests.integration.processes import EngineProcess, fake_engine, front_end

REQUESTS = 200
AT_ONCE = 8


async def two_hundred_mixed(client: aiohttp.ClientSession) -> list[Answer]:
    kinds = itertools.product((False, True), ((CHAT, HELLO), (COMPLETIONS, PROMPT)), (1, 2), (1, 5), (None, "flex"))
    places = asyncio.Semaphore(AT_ONCE)

    async def one(stream: bool, route: tuple[str, dict[str, object]], n: int, tokens: int, tier: str | None) -> Answer:  # noqa: FBT001
        body = route[1] | {"stream": stream, "n": n, "max_tokens": tokens, "service_tier": tier}
        body["stream_options"] = {"include_usage": True} if stream and n == 2 else None
        async with places:
            return await ask(client, route[0], body)

    return await asyncio.gather(*(one(*kind) for kind in itertools.islice(itertools.cycle(kinds), REQUESTS)))


def request_accounts(page: MetricsPage) -> float:
    return sum(page.total("wattline_energy_joules_total", account=name) for name in ("prefill", "decode"))


async def counter_joules(engine: EngineProcess) -> float:
    return float((await engine.energy())["counter_microjoules"]) / 1e6


async def test_answers_tenants_and_accounts_agree_over_two_hundred_mixed_requests(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "1000") as first,
        fake_engine(tmp_path, "--prefill-tokens-per-second", "1000") as second,
        front_end(tmp_path, first.url, second.url, policy="round-robin", max_running_requests=3) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        answers = await two_hundred_mixed(client)
        assert [answer.status for answer in answers] == [200] * REQUESTS
        told = sum((Decimal(answer.energy()["energy_joules"]) for answer in answers), Decimal(0))
        before = await counter_joules(first) + await counter_joules(second)
        page = await metrics(client)
        after = await counter_joules(first) + await counter_joules(second)
    assert told > 0
    assert page.total("wattline_tenant_energy_joules_total") == pytest.approx(float(told), abs=1e-6)
    assert request_accounts(page) == pytest.approx(float(told), abs=1e-6)
    assert page.total("wattline_request_energy_joules_sum") == pytest.approx(float(told), abs=1e-6)
    assert page.total("wattline_request_energy_joules_count") == REQUESTS
    assert page.total("wattline_energy_in_flight_joules") == 0
    assert before <= page.total("wattline_energy_joules_total") <= after, "all accounts sum to the counters"
    assert page.total("wattline_tenant_energy_joules_total", tier="flex") > 0
    counted = sum(answer.energy()["output_tokens"] for answer in answers)
    assert page.total("wattline_tokens_total", kind="output") == counted
    assert page.total("wattline_tokens_total", kind="prompt") == 2 * REQUESTS
    assert page.total("wattline_requests_total", outcome="completed") == REQUESTS
    assert page.total("wattline_dispatches_total") == REQUESTS


async def test_usage_chunks_tell_the_same_energy_as_the_comment(
    client: aiohttp.ClientSession,
) -> None:
    options = {"stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}
    answer = await ask(client, CHAT, HELLO | options)
    usage = answer.events()[-3]
    assert usage.endswith(f'"energy":{answer.events()[-2].removeprefix(": energy ")}}}')
    silent = await ask(client, CHAT, HELLO | {"stream": True, "max_tokens": 3})
    assert '"usage"' not in silent.body.decode()
