"""Tenants with keys who try to see, or to be charged, what is another's."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from server.access.database_keys import DatabaseKeyStore
from server.access.key_lifecycle import create_key
from server.ledger.address import ledger_address
from server.ledger.database import open_database
from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import fake_engine, front_end
from tests.integration.scripted_engine import MODEL, ScriptedEngine, scripted_engine, whole

Clients = dict[str, aiohttp.ClientSession]

SETTINGS = {"ops": {"is_admin": True}, "poor": {"energy_joules_per_day": 5}}
TENANTS = ("a", "b", "ops", "poor")


@contextlib.asynccontextmanager
async def keyed(folder: Path, worker_url: str) -> AsyncIterator[Clients]:
    """A client for each tenant, by its name, of one server."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    address = ledger_address(url)
    assert address is not None
    database = open_database(address, upgrade=True)
    tokens = {tenant: create_key(DatabaseKeyStore(database), tenant, tenant, None, 0.0)[1] for tenant in TENANTS}
    database.dispose()
    settings = json.dumps(SETTINGS)
    async with (
        front_end(folder, worker_url, ledger_url=url, tenants=settings) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = {
            tenant: aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {token}"})
            for tenant, token in tokens.items()
        }
        for client in clients.values():
            await stack.enter_async_context(client)
        yield clients


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Clients]:
    slow = ("--decode-tokens-per-second", "100")
    async with fake_engine(tmp_path, *slow) as engine, keyed(tmp_path, engine.url) as running:
        yield running


@pytest.fixture
async def responses(tmp_path: Path) -> AsyncIterator[tuple[ScriptedEngine, Clients]]:
    async with scripted_engine(MODEL) as engine, keyed(tmp_path, engine.url) as running:
        engine.script = whole(b'{"id": "resp_secret", "object": "response", "output": []}')
        yield engine, running


async def leave(client: aiohttp.ClientSession, request_id: str, tokens: int) -> int:
    """Ask for a stream and go away after its first tokens; returns the status."""
    body = HELLO | {"max_tokens": 1000, "stream": True}
    async with client.post(CHAT, json=body, headers={"X-Request-Id": request_id}) as response:
        events = 0
        async for line in response.content:
            events += line.startswith(b"data:")
            if events > tokens:
                break
        response.close()
        return response.status


@pytest.mark.parametrize("path", ["/metrics", "/v1/scheduler", "/v1/energy/live"])
async def test_what_tells_of_every_tenant_is_for_administrators(clients: Clients, path: str) -> None:
    assert (await ask(clients["ops"], path, method="GET")).status == 200
    assert (await ask(clients["a"], path, method="GET")).status == 403
    nobody = {"Authorization": "Bearer nobody"}
    assert (await ask(clients["a"], path, method="GET", headers=nobody)).status == 401


async def test_who_uses_anothers_request_id_is_not_charged_for_him(clients: Clients) -> None:
    given = {"X-Request-Id": "same"}
    dear = await ask(clients["a"], CHAT, HELLO | {"max_tokens": 100}, headers=given)
    assert await leave(clients["b"], "same", 1) == 200
    async with asyncio.timeout(10):
        while True:
            rows = await ask(clients["b"], "/v1/energy/requests/same", method="GET")
            if rows.status == 200 and rows.json()["energy_joules"] is not None:
                break
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # for a report that would add to it
    row = (await ask(clients["b"], "/v1/energy/requests/same", method="GET")).json()
    assert 0 < row["energy_joules"] < dear.json()["energy"]["energy_joules"] / 4


async def test_a_budget_is_not_outrun_by_leaving(clients: Clients) -> None:
    """Each of these takes about a quarter of a second and more joules than the budget has."""
    statuses = []
    for number in range(8):
        statuses.append(await leave(clients["poor"], f"leave-{number}", 25))
        await asyncio.sleep(0.2)
    assert statuses[0] == 200
    assert statuses.count(200) <= 2


async def test_a_stored_response_is_its_tenants_alone(responses: tuple[ScriptedEngine, Clients]) -> None:
    engine, clients = responses
    path, made = "/v1/responses/resp_secret", {"model": MODEL, "input": "x"}
    assert (await ask(clients["a"], "/v1/responses", made)).status == 200
    engine.seen = []
    for method, target in (("GET", path), ("DELETE", path), ("POST", f"{path}/cancel")):
        answer = await ask(clients["b"], target, method=method)
        assert (answer.status, answer.error()["code"]) == (404, "response_not_found")
    for field in ("previous_response_id", "request_id"):
        assert (await ask(clients["b"], "/v1/responses", made | {field: "resp_secret"})).status == 404
    unknown = await ask(clients["b"], "/v1/responses/resp_unknown", method="GET")
    assert unknown.status == 404
    assert engine.seen == []
    assert (await ask(clients["a"], path, method="GET")).status == 200
    assert (await ask(clients["a"], "/v1/responses", made | {"previous_response_id": "resp_secret"})).status == 200
    assert (await ask(clients["ops"], path, method="GET")).status == 200
