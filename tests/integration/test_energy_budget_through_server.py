"""A budget in joules ends within the cost of what is in flight, and what was spent is the same wherever it is read."""

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.http_answers import CHAT, COMPLETIONS, HELLO, PROMPT, Answer, ask, metrics
from tests.integration.made_keys import MadeKey, make_keys
from tests.integration.processes import EngineProcess, eventually, fake_engine, front_end

BUDGET_JOULES = 50
AT_ONCE = 4
LEFT = 2
# 100 W for a tenth of a second: 10 J alone, and 2 J beside four others.
ENGINE = ("--active-watts", "100", "--idle-watts", "0", "--decode-tokens-per-second", "100")
ANSWER: dict[str, Any] = {"max_tokens": 11}
REMAINING = "x-wattline-energy-budget-remaining-joules"
# Of a month, which ends in fewer test runs than a day does.
TENANTS = f"""
[tenants.small]
energy_joules_per_month = {BUDGET_JOULES}

[tenants.large]
energy_joules_per_month = 1_000_000

[tenants.ops]
is_admin = true
"""


@dataclass(slots=True)
class Spent:
    """What the callers of one tenant were told; instants are of the monotonic clock."""

    answers: list[tuple[float, float, Answer]] = field(default_factory=list)
    refusals: list[Answer] = field(default_factory=list)

    def in_order(self) -> list[tuple[float, float, Answer]]:
        return sorted(self.answers, key=lambda one: one[1])

    def microjoules(self) -> int:
        return sum(microjoules(answer) for _, _, answer in self.answers)


def microjoules(answer: Answer) -> int:
    return int(Decimal(answer.energy()["energy_joules"]) * 1_000_000)


async def ask_until_refused(client: aiohttp.ClientSession, key: MadeKey, spent: Spent) -> None:
    kinds = itertools.cycle([(CHAT, HELLO, False), (COMPLETIONS, PROMPT, True)])
    while not spent.refusals:
        target, body, stream = next(kinds)
        asked_at_seconds = time.monotonic()
        answer = await ask(client, target, body | ANSWER | {"stream": stream}, headers=key.bearer)
        if answer.status == 200:
            spent.answers.append((asked_at_seconds, time.monotonic(), answer))
        else:
            spent.refusals.append(answer)


async def ask_until(ended: asyncio.Event, client: aiohttp.ClientSession, key: MadeKey, spent: Spent) -> None:
    while not ended.is_set():
        asked_at_seconds = time.monotonic()
        answer = await ask(client, CHAT, HELLO | ANSWER, headers=key.bearer)
        assert answer.status == 200, "another tenant's budget is another's"
        spent.answers.append((asked_at_seconds, time.monotonic(), answer))


async def leave_in_mid_stream(client: aiohttp.ClientSession, engine: EngineProcess, key: MadeKey) -> None:
    body = HELLO | {"max_tokens": 1000, "stream": True}
    async with client.post(CHAT, json=body, headers=key.bearer) as response:
        await response.content.readline()
        response.close()
    await eventually(lambda: engine.runs(0))


async def charged_microjoules(engine: EngineProcess) -> int:
    """What the engine says of the requests whose callers left."""
    recent = (await engine.energy())["recent_requests"]
    aborted = [request for request in recent if request["outcome"] == "aborted"]
    assert len(aborted) == LEFT
    return int(sum(request["prefill_microjoules"] + request["decode_microjoules"] for request in aborted))


def ledger_microjoules(ledger: Path, tenant: str) -> tuple[int, int]:
    """What a tenant has spent by the ledger's rows, and how much of it was told late."""
    with sqlite3.connect(ledger) as database:
        sums = "SELECT sum(energy_microjoules), sum(late_microjoules) FROM requests WHERE tenant = ?"
        spent, late = database.execute(sums, (tenant,)).fetchone()
    database.close()
    return spent, late


def check_overshoot(spent: Spent, late: int) -> None:
    """Callers see answers in the order they end in, or nearly: each after it was booked."""
    budget = BUDGET_JOULES * 1_000_000
    running, in_flight = late, []
    for asked, ended, answer in spent.in_order():
        running += microjoules(answer)
        if running >= budget:
            in_flight.append((asked, ended, answer))
    overshoot = running - budget
    crossed_at_seconds = in_flight[0][1]
    print(  # noqa: T201  # what the test is for
        f"budget {BUDGET_JOULES} J, spent {running / 1e6:.6f} J, overshoot {overshoot / 1e6:.6f} J,"
        f" in flight {len(in_flight)} requests of {sum(microjoules(one) for *_, one in in_flight) / 1e6:.6f} J"
    )
    assert len(in_flight) <= AT_ONCE
    assert all(asked < crossed_at_seconds for asked, *_ in in_flight), "none was let in that came later"
    assert 0 <= overshoot < sum(microjoules(one) for *_, one in in_flight)


def check_refusals(refusals: Sequence[Answer]) -> None:
    for refused in refusals:
        error = refused.error()
        assert (refused.status, error["type"], error["code"]) == (429, "rate_limit_error", "energy_budget_exceeded")
        assert error["message"].startswith(f"this tenant's energy budget of {BUDGET_JOULES} J per month is spent")
        assert refused.headers["x-should-retry"] == "false"
        assert 1 <= int(refused.headers["Retry-After"]) <= 31 * 86_400
        assert refused.headers[REMAINING] == "0.000000"
        assert refused.headers["x-wattline-energy-budget-period"] == "month"


async def test_a_tenant_stops_at_its_budget_and_stays_stopped(tmp_path: Path) -> None:
    config, ledger = tmp_path / "wattline.toml", tmp_path / "ledger.db"
    config.write_text(TENANTS)
    url = f"sqlite:///{ledger}"
    keys = await make_keys(url, "small", "large", "ops")
    small, large, ended = Spent(), Spent(), asyncio.Event()
    async with fake_engine(tmp_path, *ENGINE) as engine:
        async with (
            front_end(tmp_path, engine.url, config=config, ledger_url=url) as server,
            aiohttp.ClientSession(server.url) as client,
        ):
            for _ in range(LEFT):
                await leave_in_mid_stream(client, engine, keys["small"])
            late = await charged_microjoules(engine)
            assert late > 0
            page = await metrics(client, keys["ops"].bearer)  # which has the server ask the engine
            assert round(page.total("wattline_tenant_energy_joules_total") * 1e6) == late
            others = asyncio.create_task(ask_until(ended, client, keys["large"], large))
            await asyncio.gather(*(ask_until_refused(client, keys["small"], small) for _ in range(AT_ONCE)))
            ended.set()
            await others
            check_refusals(small.refusals)
            check_overshoot(small, late)
            told = [Decimal(answer.headers[REMAINING]) for *_, answer in small.in_order()]
            assert told[0] == BUDGET_JOULES - Decimal(late) / 1_000_000, "what callers left behind is spent too"
            assert told[-1] < told[0]
            page = await metrics(client, keys["ops"].bearer)
            for tenant, spent, charged in (("small", small, late), ("large", large, 0)):
                total = spent.microjoules() + charged
                assert round(page.total("wattline_tenant_energy_joules_total", tenant=tenant) * 1e6) == total
                assert ledger_microjoules(ledger, tenant) == (total, charged)
                summary = f"/v1/energy/summary?tenant={tenant}"
                seen = (await ask(client, summary, method="GET", headers=keys[tenant].bearer)).json()["total"]
                assert int(seen["energy_joules"] * 1_000_000) == total
            assert page.total("wattline_tenant_energy_budget_remaining_joules", tenant="small") == 0
        async with (
            front_end(tmp_path, engine.url, config=config, ledger_url=url) as restarted,
            aiohttp.ClientSession(restarted.url) as client,
        ):
            check_refusals([await ask(client, CHAT, HELLO | ANSWER, headers=keys["small"].bearer)])
            other = await ask(client, CHAT, HELLO | ANSWER, headers=keys["large"].bearer)
            assert other.status == 200
            assert Decimal(other.headers[REMAINING]) == 1_000_000 - Decimal(large.microjoules()) / 1_000_000
