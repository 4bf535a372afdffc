"""The page at `/` in a real browser: what it shows of a server, what asking costs, and who may see what."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser

from bench.pictures.screens import SCREENS, take_screens
from tests.browser import DESKTOP, PHONE, Viewer, chromium, chromium_path, viewer
from tests.integration.http_answers import CHAT, ask
from tests.integration.made_keys import MadeKey, make_keys
from tests.integration.processes import FrontEnd, fake_engine, front_end
from tests.integration.scripted_engine import scripted_engine

# A browser and two servers are started first, on cores that other tests want too.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

LIVE = "/v1/energy/live"
PROMPT = "What is a joule?"
ENDED = "document.querySelector('#recent-table tr.own') !== null"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontEnd]:
    folder = tmp_path_factory.mktemp("dashboard")
    async with (
        fake_engine(folder, "--decode-tokens-per-second", "100") as engine,
        front_end(folder, engine.url) as running,
    ):
        yield running


@dataclass(frozen=True, slots=True)
class Locked:
    """A server that asks for keys, and a key of an administrator's and of another tenant's."""

    url: str
    admin: MadeKey
    tenant: MadeKey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def locked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Locked]:
    folder = tmp_path_factory.mktemp("locked")
    config = folder / "wattline.toml"
    config.write_text("[tenants.ops]\nis_admin = true\n[tenants.team]\nenergy_joules_per_day = 1000.0\n")
    url = f"sqlite:///{folder / 'ledger.db'}"
    keys = await make_keys(url, "ops", "team")
    async with (
        fake_engine(folder, "--decode-tokens-per-second", "100") as engine,
        front_end(folder, engine.url, config=config, ledger_url=url) as server,
    ):
        yield Locked(server.url, keys["ops"], keys["team"])


async def live(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession(url) as client, client.get(LIVE) as answer:
        assert answer.status == 200
        body: dict[str, Any] = await answer.json()
        return body


async def completed(seen: Viewer) -> int:
    return int((await seen.text("#tiles .tile:nth-child(4) .value")).replace(",", ""))


async def test_a_prompt_is_answered_with_its_joules_and_the_totals_move(browser: Browser, server: FrontEnd) -> None:
    async with viewer(browser, server.url) as seen:
        await seen.until("document.querySelector('#connection').innerText === 'live'")
        before = await completed(seen)
        said = await seen.ask(PROMPT, tokens=7)
        assert re.fullmatch(r"Answered for [\d.]+ J, estimated, not measured\.", said), said
        assert (await seen.text("#answer")).split() == ["tok"] * 7
        price = await seen.text("#cost-joules")
        assert price in said
        await seen.until(ENDED)
        assert await completed(seen) == before + 1
        row = await seen.text("#recent-table tr.own")
        assert price in row
        assert "yours" in row
        body = await live(server.url)
        request = body["recent_requests"][0]
        assert f"{request['energy_joules']:.3g}" in price
        assert (request["output_tokens"], request["measured"]) == (7, False)
        assert PROMPT not in json.dumps(body)
        assert all(address.startswith(server.url) for address in seen.asked)
        assert seen.complaints == []


async def test_an_answer_can_be_stopped_and_is_charged(browser: Browser, server: FrontEnd) -> None:
    async with viewer(browser, server.url) as seen:
        await seen.page.fill("#ask-prompt", PROMPT)
        await seen.page.fill("#ask-tokens", "4000")
        await seen.page.click("#ask-send")
        await seen.until("document.querySelector('#answer').innerText.length > 12")
        await seen.page.click("#ask-stop")
        await seen.ended()
        assert "Stopped" in await seen.text("#ask-status")
        assert await seen.page.evaluate("document.activeElement.id") == "ask-send"
        await seen.until("/aborted\\s[^]*\\d J/.test(document.querySelector('#recent-table tr.own')?.innerText)")


async def test_the_theme_is_the_systems_until_one_is_chosen_and_then_stays(browser: Browser, server: FrontEnd) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    async with viewer(browser, server.url, theme="dark") as seen:
        dark = await seen.page.evaluate(background)
        await seen.page.click("#theme-button")
        light = await seen.page.evaluate(background)
        assert sum(map(int, re.findall(r"\d+", dark))) < 120
        assert sum(map(int, re.findall(r"\d+", light))) > 650
        await seen.page.reload()
        assert await seen.page.evaluate(background) == light
        assert await seen.page.get_attribute("#theme-button", "aria-label") == "Switch to the dark theme"
        assert seen.complaints == []


async def test_a_keyboard_is_enough(browser: Browser, server: FrontEnd) -> None:
    async with viewer(browser, server.url) as seen:
        await seen.until("document.querySelector('#ask-model').value === 'fake'")
        keyboard = seen.page.keyboard
        await keyboard.press("Tab")
        assert await seen.page.evaluate("document.activeElement.className") == "skip"
        await keyboard.press("Enter")
        assert await seen.page.evaluate("document.activeElement.id") == "main"
        await keyboard.press("Tab")
        assert await seen.page.evaluate("document.activeElement.id") == "ask-prompt"
        assert await seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await keyboard.type(PROMPT)
        await keyboard.press("Control+Enter")
        await seen.ended()
        assert "Answered for" in await seen.text("#ask-status")
        reached = set()
        for _ in range(12):
            await keyboard.press("Tab")
            reached.add(await seen.page.evaluate("document.activeElement.id || document.activeElement.className"))
        assert {"ask-model", "ask-tokens", "ask-tier", "ask-send", "answer", "wide", "wide tall"} <= reached
        assert seen.complaints == []


async def test_without_a_key_it_says_what_needs_one(browser: Browser, locked: Locked) -> None:
    async with viewer(browser, locked.url) as seen:
        await seen.until("!document.querySelector('#key-panel').hidden")
        assert "asks for a key" in await seen.text("#key-text")
        assert await seen.page.is_hidden("#power-chart")
        assert await seen.page.is_hidden("#tiles")
        await seen.until("document.querySelector('#workers-table').innerText.includes('ready')")
        await give_key(seen, locked.tenant)
        await seen.until("document.body.dataset.access === 'tenant'")
        assert "need an administrator's key" in await seen.text("#key-text")
        assert await seen.page.is_hidden("#recent-table")
        assert await seen.serious_findings() == []
        assert "Answered for" in await seen.ask(PROMPT)
        await give_key(seen, locked.admin)
        await seen.until("document.body.dataset.access === 'admin'")
        await seen.until("document.querySelector('#tenants-table').innerText.includes('1 kJ a day')")
        assert await seen.page.is_visible("#power-chart")
        assert await seen.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]
        await seen.page.click("#key-button")
        await seen.page.click("#key-forget")
        await seen.until("document.body.dataset.access === 'none'")
        assert await seen.page.evaluate("sessionStorage.length") == 0
        # The browser itself notes each answer that refuses; nothing else may be there.
        assert [text for text in seen.complaints if "status of 40" not in text] == []


async def test_what_a_key_has_opened_is_gone_with_the_key(browser: Browser, locked: Locked) -> None:
    async with viewer(browser, locked.url) as seen:
        await give_key(seen, locked.admin)
        await seen.until("document.querySelector('#tenants-table').innerText.includes('team')")
        await seen.page.click("#key-button")
        await seen.page.click("#key-forget")
        await seen.until("document.body.dataset.access === 'none'")
        await seen.until("document.querySelector('#workers-table').innerText.includes('ready')")
        page = await seen.page.content()
        assert "team" not in page
        assert await seen.page.evaluate("document.querySelectorAll('canvas').length") == 0
        assert await seen.page.evaluate("document.querySelector('#power-readout').textContent") == ""
        await give_key(seen, locked.admin)
        await seen.until("document.querySelector('#tenants-table').innerText.includes('team')")
        assert await seen.page.is_visible("#power-chart canvas")


async def test_a_key_that_no_header_can_carry_is_called_one(browser: Browser, locked: Locked) -> None:
    async with viewer(browser, locked.url) as seen:
        await seen.until("!document.querySelector('#key-panel').hidden")
        await seen.page.fill("#key-input", "sk-“漢”")
        await seen.page.press("#key-input", "Enter")
        await seen.until("document.querySelector('#key-text').innerText.startsWith('This is no key')")
        assert await seen.page.evaluate("sessionStorage.length") == 0
        assert await seen.text("#connection") != "not reachable"


async def give_key(seen: Viewer, key: MadeKey) -> None:
    if await seen.page.is_hidden("#key-panel"):
        await seen.page.click("#key-button")
    await seen.page.fill("#key-input", key.token)
    await seen.page.press("#key-input", "Enter")


async def test_what_a_model_writes_is_text_and_what_nobody_measures_is_not_known(
    browser: Browser, tmp_path: Path
) -> None:
    markup = "<img src=x onerror=alert(1)><b>bold</b>"

    async def script(_: web.Request) -> web.StreamResponse:
        chunk = {"choices": [{"index": 0, "delta": {"content": markup}}]}
        text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    async with scripted_engine() as engine, front_end(tmp_path, engine.url) as server:
        engine.script = script
        async with viewer(browser, server.url) as seen:
            said = await seen.ask(PROMPT)
            assert said == "Answered; what it cost is not known: worker remote-0 does not measure energy."
            assert await seen.text("#answer") == markup
            await seen.until(ENDED)
            told = "worker remote-0 does not measure energy"
            assert f"not known\n{told}" in await seen.text("#cost-joules")
            assert told in await seen.text("#recent-table tr.own")
            assert "not known" in await seen.text("#tiles .tile:first-child")
            assert seen.complaints == []
        body = await live(server.url)
        assert body["reason"] == "remote-0: the worker does not measure energy"
        assert body["power_watts"] == {}
        assert set(body["accounts_joules"].values()) == {None}
        assert body["in_flight_joules"] is None
        assert body["joules_per_output_token"] == {"last_minute": None, "since_start": None}
        assert [tenant["energy_joules"] for tenant in body["tenants"]] == [None]


async def test_it_says_when_the_server_is_away_and_when_it_is_back(browser: Browser, server: FrontEnd) -> None:
    async with viewer(browser, server.url) as seen:
        await seen.until("document.querySelector('#connection').innerText === 'live'")
        await seen.page.context.set_offline(offline=True)
        await seen.until("document.querySelector('#connection').innerText === 'not reachable'")
        assert "cannot be reached" in await seen.text("#notice")
        assert "The figures are of" in await seen.text("#notice")
        assert await seen.serious_findings() == []
        await seen.page.context.set_offline(offline=False)
        await seen.until("document.querySelector('#connection').innerText === 'live'")
        assert await seen.page.is_hidden("#notice")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing_serious(browser: Browser, server: FrontEnd, size: tuple[int, int], theme: str) -> None:
    async with viewer(browser, server.url, size, theme, motion="reduce") as seen:
        assert "Answered for" in await seen.ask(PROMPT)
        await seen.until(ENDED)
        assert await seen.serious_findings() == []
        await seen.page.click("#key-button")
        assert await seen.serious_findings() == []
        assert await seen.page.evaluate("document.documentElement.scrollWidth") <= size[0], "nothing sticks out"
        assert await seen.page.evaluate("document.getAnimations().length") == 0
        assert seen.complaints == []


async def test_the_pictures_of_the_page_are_taken_and_small(server: FrontEnd, tmp_path: Path) -> None:
    chromium_path()
    taken = await asyncio.to_thread(take_screens, server.url, None, tmp_path, 0.1)
    assert [file.name for file in taken] == [f"{screen.name}.png" for screen in SCREENS]
    for file in taken:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert 20_000 < file.stat().st_size < 300_000, file.name


async def test_the_page_is_for_anybody_and_allows_nothing_from_elsewhere(locked: Locked) -> None:
    async with aiohttp.ClientSession(locked.url) as client:
        page = await ask(client, "/", method="GET")
        assert page.status == 200
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        names = re.findall(r'(?:src|href)="(dashboard/[^"]+)"', page.body.decode())
        assert len(names) == 7
        for name in names:
            assert (await ask(client, f"/{name}", method="GET")).status == 200, name
        again = await ask(client, "/", method="GET", headers={"If-None-Match": page.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert (await ask(client, "/", method="HEAD")).body == b""
        for outside in ("/dashboard/../app.py", "/dashboard/%2e%2e/app.py", "/dashboard/nothing.js", "/dashboard"):
            assert (await ask(client, outside, method="GET")).status == 404, outside
        assert (await ask(client, "/", {})).error()["type"] == "invalid_request_error"
        assert (await ask(client, CHAT, {})).status == 401


async def test_a_page_of_another_site_may_spend_nothing(server: FrontEnd, locked: Locked) -> None:
    elsewhere = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    async with aiohttp.ClientSession(server.url) as client:
        for path, method in ((CHAT, "POST"), (LIVE, "GET"), ("/metrics", "GET"), ("/v1/models", "GET")):
            refused = await ask(client, path, {}, method=method, headers=elsewhere)
            assert (refused.status, refused.error()["code"]) == (403, "cross_site")
        renamed = await ask(client, LIVE, method="GET", headers={"Host": "evil.example"})
        assert (renamed.status, renamed.error()["code"]) == (403, "cross_site")
        own = {"Origin": server.url}
        assert (await ask(client, LIVE, method="GET", headers=own)).status == 200
    async with aiohttp.ClientSession(locked.url) as client:
        keyed = elsewhere | locked.admin.bearer
        assert (await ask(client, LIVE, method="GET", headers=keyed)).status == 200, (
            "with a key it is the caller's affair"
        )
