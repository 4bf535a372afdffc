"""Grams of an answer, end to end: told in the answer, kept in the ledger's row, printed in the access log."""

import json
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import FrontEnd, eventually, fake_engine, front_end

CARBON = """
[carbon]
intensity_gco2_per_kwh = 300
pue = 1.5
"""
JOULES_PER_KILOWATT_HOUR = 3_600_000
FIELDS = {"carbon_g_co2eq", "grid_carbon_intensity_gco2perkwhr", "carbon_source"}


async def test_every_answer_tells_its_grams_and_they_are_kept(tmp_path: Path) -> None:
    config, ledger = tmp_path / "wattline.toml", tmp_path / "ledger.db"
    config.write_text(CARBON)
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "100") as engine,
        front_end(
            tmp_path,
            engine.url,
            config=config,
            ledger_url=f"sqlite:///{ledger}",
            access_log=True,
            log_format="json",
        ) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        body = HELLO | {"max_tokens": 5}
        whole = await ask(client, CHAT, body)
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        streamed = await ask(client, CHAT, body | usage)
        (chunk,) = (event for event in streamed.events() if '"energy":' in event and event.startswith("data: "))
        told = json.loads(chunk.removeprefix("data: "), parse_float=Decimal)["energy"]
        assert told == streamed.energy()
        for answer in (whole, streamed):
            block, request_id = answer.energy(), answer.headers["X-Request-Id"]
            check_grams(block)
            assert kept(ledger, request_id) == (float(block["carbon_g_co2eq"]), 300.0, "static")
            line = await logged(server, request_id)
            assert line["carbon_g_co2eq"] == float(block["carbon_g_co2eq"])
            page = await ask(client, f"/v1/energy/requests/{request_id}", method="GET")
            assert {name: page.json()[name] for name in FIELDS} == {name: block[name] for name in FIELDS}


def check_grams(block: dict[str, Any]) -> None:
    grams = Decimal(block["energy_joules"]) / JOULES_PER_KILOWATT_HOUR * Decimal("1.5") * 300
    assert grams > 0
    assert abs(block["carbon_g_co2eq"] - grams) <= Decimal("1e-9")
    assert (block["grid_carbon_intensity_gco2perkwhr"], block["carbon_source"]) == (300, "static")


def kept(ledger: Path, request_id: str) -> tuple[float, float, str]:
    columns = "carbon_g_co2eq, grid_carbon_intensity_gco2perkwhr, carbon_source"
    with sqlite3.connect(ledger) as database:
        (row,) = database.execute(f"SELECT {columns} FROM requests WHERE request_id = ?", (request_id,)).fetchall()
    database.close()
    grams, intensity, source = row
    return grams, intensity, source


async def logged(server: FrontEnd, request_id: str) -> dict[str, Any]:
    """The access line of a request, which is printed once its caller has everything."""

    def lines() -> list[dict[str, Any]]:
        whole_lines = [line for line in server.output().splitlines(keepends=True) if line.endswith("\n")]
        found = [json.loads(line) for line in whole_lines if line.startswith("{")]
        return [line for line in found if line["logger"] == "wattline.access" and line["request_id"] == request_id]

    async def is_there() -> bool:
        return bool(lines())

    await eventually(is_there)
    (line,) = lines()
    return line
