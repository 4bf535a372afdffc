"""Debian's Chromium, driven by Playwright, and what a page complained of while it was looked at."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from bench.pictures.screens import CHROMIUM_ARGUMENTS
from tests.integration.processes import eventually

DESKTOP: Final = (1360, 900)
PHONE: Final = (390, 844)
_PATIENCE_MILLISECONDS: Final = 45_000


@dataclass(slots=True)
class Viewer:
    """A page, its complaints (errors on its console, exceptions) and the addresses it asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def watch(self) -> None:
        # Functions rather than methods: the library hangs attributes on whatever owns a method.
        def note(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                self.complaints.append(message.text)

        self.page.on("console", note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def until(self, expression: str) -> None:
        """Wait until this JavaScript expression holds. Asked from here: the page lets nobody evaluate text in it."""

        async def holds() -> bool:
            return bool(await self.page.evaluate(expression))

        try:
            await eventually(holds)
        except TimeoutError as error:
            raise AssertionError(f"never came true: {expression}; complaints: {self.complaints}") from error

    async def ask(self, prompt: str, tokens: int = 5) -> str:
        """Send a prompt by hand, wait for the end; returns what was said of it then."""
        await self.page.fill("#ask-prompt", prompt)
        await self.page.fill("#ask-tokens", str(tokens))
        await self.page.click("#ask-send")
        await self.ended()
        return await self.text("#ask-status")

    async def ended(self) -> None:
        """Wait until the answer is over."""
        await self.until(
            "document.querySelector('#ask-stop').hidden && document.querySelector('#ask-status').innerText"
        )

    async def serious_findings(self) -> list[str]:
        """What axe holds against the page as it is now, but for what it calls moderate or minor."""
        results = await Axe().run(self.page)
        assert len(results.response["passes"]) > 10, "it has looked"
        found: list[dict[str, Any]] = results.response["violations"]
        return [
            f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']]}"
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]


def chromium_path() -> str:
    """Where the browser is; skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on this machine (Debian's package of that name)")
    return path


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A running browser, for as many pages as are wanted."""
    path = chromium_path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def viewer(
    browser: Browser, url: str, size: tuple[int, int] = DESKTOP, theme: str = "light", motion: str = "no-preference"
) -> AsyncIterator[Viewer]:
    """The page at `url` as somebody sees it who was never there before."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce" if motion == "reduce" else "no-preference",
    )
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    try:
        seen = Viewer(await context.new_page())
        seen.watch()
        await seen.page.goto(url)
        yield seen
    finally:
        await context.close()
