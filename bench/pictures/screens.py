"""The dashboard as a browser shows it: wide in both themes, and on a phone."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

# Nothing asks for anything in the background, and no sandbox is needed for pages of our own.
CHROMIUM_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MILLISECONDS: Final = 60_000
# What a small model knows too.
_PROMPT: Final = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class Screen:
    """One picture. `scale` is pixels of the picture for one of the page."""

    name: str
    width: int
    height: int
    scale: float
    is_dark: bool

    @property
    def is_phone(self) -> bool:
        return self.width < 700


SCREENS: Final = (
    Screen("dashboard-light", 1360, 1330, 1.0, is_dark=False),
    Screen("dashboard-dark", 1360, 1330, 1.0, is_dark=True),
    Screen("dashboard-phone", 390, 1500, 1.5, is_dark=False),
)


class NoBrowserError(RuntimeError):
    """There is no chromium on this machine."""


def take_screens(url: str, key: str | None, folder: Path, watch_seconds: float) -> list[Path]:
    """Look at the page for so long, ask it something, and take its pictures.

    Raises:
        NoBrowserError: there is none.
    """
    path = shutil.which("chromium")
    if path is None:
        raise NoBrowserError("chromium is not installed (Debian's package of that name)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        pages = [_open(browser, url, key, screen) for screen in SCREENS]
        pages[0].wait_for_timeout(watch_seconds * 1000)
        taken = [_take(page, screen, folder) for page, screen in zip(pages, SCREENS, strict=True)]
        browser.close()
    return taken


def _open(browser: Browser, url: str, key: str | None, screen: Screen) -> Page:
    context = browser.new_context(
        viewport={"width": screen.width, "height": screen.height},
        device_scale_factor=screen.scale,
        color_scheme="dark" if screen.is_dark else "light",
        reduced_motion="reduce",
        is_mobile=screen.is_phone,
        has_touch=screen.is_phone,
    )
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    page = context.new_page()
    page.goto(url)
    if key is not None:
        page.wait_for_selector("#key-input")
        page.fill("#key-input", key)
        page.press("#key-input", "Enter")
    page.wait_for_selector("#tiles .tile")
    return page


def _take(page: Page, screen: Screen, folder: Path) -> Path:
    page.fill("#ask-prompt", _PROMPT)
    page.fill("#ask-tokens", "60")
    page.click("#ask-send")
    page.wait_for_selector("#cost-joules")
    page.wait_for_selector("#recent-table tr.own", state="attached")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    file = folder / f"{screen.name}.png"
    page.screenshot(path=file)
    return file
