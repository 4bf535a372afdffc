"""Pictures hold what was on the screen, and fetch nothing from elsewhere."""

import re
from xml.etree import ElementTree as ET

from server.top.picture import screen_picture, text_picture
from tests.live_body import live_body
from tests.unit.server.top.told_source import ToldSource


def words(svg: str) -> str:
    root = ET.fromstring(svg)
    return "".join(root.itertext()).replace("\xa0", " ")


def test_of_what_a_terminal_showed() -> None:
    svg = text_picture("\x1b[1;32mWattline 0.1.0\x1b[0m, listening\n  model  smollm2\n\n", "wattline serve")
    assert "Wattline 0.1.0, listening" in words(svg)
    assert "wattline serve" in words(svg)
    assert re.search(r"url\(['\"]?http|@font-face", svg) is None


async def test_of_the_screen() -> None:
    source = ToldSource()
    source.tell_last(live_body())
    svg = await screen_picture(source, "http://127.0.0.1:8000", (80, 24), 0.0)
    assert "Power 329 W" in words(svg)
    assert re.search(r"url\(['\"]?http|@font-face", svg) is None
