"""The page at `/` over the real engine: somebody asks by hand, and the page's joules are the server's."""

import re

import aiohttp
import pytest

from tests.browser import chromium, viewer
from tests.e2e.figures import show
from tests.e2e.wattline_process import WattlineProcess
from tests.integration.http_answers import ask

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_somebody_asks_and_sees_what_it_cost(server: WattlineProcess) -> None:
    async with chromium() as browser, viewer(browser, server.url) as seen:
        await seen.until("document.querySelector('#ask-model').value === 'smollm2'")
        said = await seen.ask("What is a joule, in one sentence?", tokens=24)
        price = await seen.text("#cost-joules")
        answer = await seen.text("#answer")
        show(f"the page: {said!r}, {len(answer)} characters of an answer")
        assert len(answer) > 10
        assert re.fullmatch(r"Answered for [\d.]+ m?J, (estimated, not measured|measured by \w+)\.", said), said
        assert price in said
        await seen.until("document.querySelector('#recent-table tr.own') !== null")
        assert price in await seen.text("#recent-table tr.own")
        async with aiohttp.ClientSession(server.url) as client:
            live = (await ask(client, "/v1/energy/live", method="GET")).json()
            own = live["recent_requests"][0]
            kept = (await ask(client, f"/v1/energy/requests/{own['request_id']}", method="GET")).json()
        assert kept["energy_joules"] == own["energy_joules"]
        assert live["power_watts"]
        assert all(joules is not None for joules in live["accounts_joules"].values())
        assert await seen.serious_findings() == []
        assert seen.complaints == []
