"""Every family of the catalogue on a real page, with the values that the traffic should have left there."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server import metric_catalogue as catalogue
from tests.integration.fleet import child, fleet
from tests.integration.http_answers import CHAT, COMPLETIONS, HELLO, PROMPT, ask, metrics
from tests.integration.processes import eventually, fake_engine, front_end
from workers.supervisor import WorkerState

STREAM = HELLO | {"stream": True, "max_tokens": 5}
GCO2_PER_KWH = 180.0
SETTINGS: dict[str, Any] = {
    "carbon__intensity_gco2_per_kwh": GCO2_PER_KWH,
    "slo_ttft_seconds": 60,
    "slo_tpot_seconds": 1e-9,
}


async def test_every_family_appears_with_what_the_traffic_left(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path) as engine,
        front_end(tmp_path, engine.url, flex_wait_seconds=0.1, **SETTINGS) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        answers = [await ask(client, CHAT, STREAM) for _ in range(3)]
        answers.append(await ask(client, CHAT, STREAM | {"service_tier": "flex"}))
        answers.append(await ask(client, COMPLETIONS, PROMPT | {"max_tokens": 2}))
        assert [answer.status for answer in answers] == [200] * 5
        refused = await asyncio.gather(*(ask(client, CHAT, HELLO | {"model": f"made-up-{n}"}) for n in range(4)))
        assert {answer.status for answer in refused} == {404}
        page = await metrics(client)
        text = (await ask(client, "/metrics", method="GET")).body.decode()
        work = (await engine.energy())["work"]

    for family in catalogue.FAMILIES:
        assert f"# TYPE {family.shown_name} {family.kind}\n" in text
    assert "made-up" not in text, "what callers make up is no label"

    blocks = [answer.energy() for answer in answers]
    tokens = sum(block["output_tokens"] for block in blocks)
    assert page.total("wattline_build_info", policy="energy") == 1
    assert page.total("wattline_slo_ttft_seconds") == 60
    assert page.total("wattline_slo_tpot_seconds") == 1e-9
    assert page.total("wattline_slo_requests_total", target="ttft", met="true", model="fake") == 3
    assert page.total("wattline_slo_requests_total", target="ttft", met="false") == 0
    assert page.total("wattline_slo_requests_total", target="tpot", met="false") == 3, "neither flex nor whole answers"
    assert page.total("wattline_tenant_requests_total", tenant="anonymous", model="fake") == 5
    assert page.total("wattline_tenant_requests_total", model="unknown") == 4
    assert page.total("wattline_tenant_requests_total", tier="flex") == 1
    assert page.total("wattline_tenant_tokens_total", tenant="anonymous", kind="output") == tokens
    assert page.total("wattline_refusals_total", cause="unknown_model") == 4
    assert page.total("wattline_refusals_total") == 4

    grams = float(sum(block["carbon_g_co2eq"] for block in blocks))
    assert page.total("wattline_carbon_g_co2eq_total", model="fake") == pytest.approx(grams, rel=1e-6)
    assert page.total("wattline_grid_carbon_intensity_gco2perkwh", source="static") == GCO2_PER_KWH
    assert page.total("wattline_grid_carbon_age_seconds") == 0, "it is of no instant"

    worker = {"worker": "remote-0"}
    assert page.total("wattline_worker_measured", **worker) == float(bool(blocks[0]["measured"]))
    assert page.total("wattline_worker_steps_total", **worker) == work["steps_total"] > 0
    assert page.total("wattline_worker_step_seconds_total", **worker) == work["step_seconds_total"]
    assert page.total("wattline_worker_decode_tokens_total", **worker) == work["decode_tokens_total"] > 0
    assert page.total("wattline_worker_prefill_tokens_total", **worker) == work["prefill_tokens_total"] > 0
    assert page.total("wattline_worker_waiting_requests", **worker) == 0
    assert page.total("wattline_worker_losses_total", **worker) == 0


async def test_a_worker_that_dies_is_counted_and_its_work_stays_counted() -> None:
    async with fleet([child("w")]) as running, aiohttp.ClientSession(running.url) as client:
        assert (await ask(client, CHAT, HELLO | {"max_tokens": 5})).status == 200
        steps = (await metrics(client)).total("wattline_worker_steps_total", worker="w")
        assert steps > 0
        os.kill(running.engine_pid("w"), signal.SIGKILL)

        async def is_back() -> bool:
            supervisor = running.worker("w").supervisor
            return supervisor.restarts == 1 and supervisor.state is WorkerState.READY

        await eventually(is_back)
        page = await metrics(client)
    assert page.total("wattline_worker_losses_total", worker="w", cause="died") == 1
    assert page.total("wattline_worker_losses_total", worker="w") == 1
    assert page.total("wattline_worker_steps_total", worker="w") >= steps
