"""`/v1/energy` over a real ledger."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from server.api_error import ApiError
from server.energy_routes import add_energy_routes
from server.ledger.ledger import DatabaseLedger, NoLedger, open_ledger
from server.ledger.settings import LedgerSettings
from tests.ledger_rows import NOON, aborted_row, ledger_row

TENANT = {"all": None, "r": "research", "s": "sales"}


def application(ledger: DatabaseLedger | NoLedger) -> FastAPI:
    app = FastAPI()

    def authorise(request: Request) -> str | None:
        return TENANT[request.headers["x-key"]]

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return Response(error.body(), error.status, dict(error.headers), media_type="application/json")

    add_energy_routes(app, ledger, authorise)
    return app


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[DatabaseLedger]:
    ledger = open_ledger(LedgerSettings(ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}"))
    assert isinstance(ledger, DatabaseLedger)
    await ledger.record(ledger_row(1))
    await ledger.record(ledger_row(2, tenant="sales", ended_unix_seconds=NOON + 86_400))
    await ledger.record(aborted_row(3))
    yield ledger
    await ledger.close()


@pytest.fixture
async def client(ledger: DatabaseLedger) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://server", headers={"x-key": "all"}) as client:
        yield client


async def test_a_summary_by_tenant_and_day(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/energy/summary", params={"by": "tenant,day", "since": "2026-01-01"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert [(group["tenant"], group["day"]) for group in body["groups"]] == [
        ("research", "2026-01-01"),
        ("sales", "2026-01-02"),
    ]
    assert body["groups"][0]["requests"]["aborted"] == 1
    assert body["total"]["energy_joules"] == 6.000014
    assert body["total"]["requests_of_unknown_energy"] == 1


async def test_the_time_and_the_columns_asked_for(client: httpx.AsyncClient) -> None:
    params = {"until": str(NOON + 1), "outcome": "completed", "model": "smollm2"}
    body = (await client.get("/v1/energy/summary", params=params)).json()
    assert body["total"]["requests"]["total"] == 1
    assert body["filters"] == {"outcome": "completed", "model": "smollm2"}


async def test_a_tenants_key_sees_its_own_requests_only(client: httpx.AsyncClient) -> None:
    headers = {"x-key": "s"}
    body = (await client.get("/v1/energy/summary", params={"by": "tenant"}, headers=headers)).json()
    assert [group["tenant"] for group in body["groups"]] == ["sales"]
    own = await client.get("/v1/energy/summary", params={"tenant": "sales"}, headers=headers)
    assert own.json()["total"]["requests"]["total"] == 1
    for other in ("research", "nobody"):
        refused = await client.get("/v1/energy/summary", params={"tenant": other}, headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "tenant_not_allowed")
    assert (await client.get("/v1/energy/requests/req-2", headers=headers)).status_code == 200
    assert (await client.get("/v1/energy/requests/req-1", headers=headers)).status_code == 404


async def test_one_request(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/energy/requests/req-1")).json()
    assert (body["request_id"], body["energy_joules"], body["tenant"]) == ("req-1", 3.000007, "research")
    assert body["components_joules"] == {"gpu": 2.5, "cpu": 0.500007}
    assert not [name for name in body if "microjoules" in name or name == "row_id"]
    unknown = (await client.get("/v1/energy/requests/req-3")).json()
    assert (unknown["energy_joules"], unknown["energy_reason"]) == (None, "the caller left")


@pytest.mark.parametrize("request_id", ["req-9", "%00", "%F0%9F%92%A1", "x" * 5000])
async def test_an_unknown_request_is_not_found(client: httpx.AsyncClient, request_id: str) -> None:
    answer = await client.get(f"/v1/energy/requests/{request_id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "request_not_found")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=colour", "by"),
        ("by=", None),
        ("by=day,day", "by"),
        ("since=soon", "since"),
        ("until=2026-99-01", "until"),
        ("since=2026-01-02&until=2026-01-01", "until"),
        ("period=fortnight", "period"),
        ("period=today&since=0", "period"),
        ("colour=red", "colour"),
        ("tenant=a&tenant=b", "tenant"),
        ("tenant=%00", "tenant"),
    ],
)
async def test_a_bad_parameter_is_named(client: httpx.AsyncClient, query: str, param: str | None) -> None:
    answer = await client.get(f"/v1/energy/summary?{query}")
    if param is None:
        assert answer.status_code == 200
        return
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(param)


async def test_without_a_ledger_there_is_nothing_to_see() -> None:
    transport = httpx.ASGITransport(application(NoLedger()))
    async with httpx.AsyncClient(transport=transport, base_url="http://server", headers={"x-key": "all"}) as client:
        for path in ("summary", "requests/req-1"):
            answer = await client.get(f"/v1/energy/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_ledger")
