"""Pictures of the terminal as SVG, drawn by Textual and rich from what they really show.

`python -m server.top.picture screen URL FILE` looks at a running server; `… text FILE --title TITLE` reads from
standard input what a terminal showed, colours included (`tmux capture-pane -e -p`).
"""

import argparse
import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from server.cli_top import KEY_VARIABLE
from server.top.app import TopApp
from server.top.connection import LiveSource, ServerConnection, checked_url
from server.top.state import VIEWS

_INTERVAL_SECONDS: Final = 0.5
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


async def screen_picture(
    source: LiveSource, url: str, size: tuple[int, int], seconds: float, view: str = VIEWS[0]
) -> str:
    """What `wattline top` shows of this server after watching it for so long."""
    app = TopApp(source, url, _INTERVAL_SECONDS, time.monotonic)
    async with app.run_test(size=size) as pilot:
        await asyncio.sleep(seconds)
        app.action_view(view)
        await pilot.pause()
        picture = app.export_screenshot(title="wattline top")
    if app.failure is not None:
        raise app.failure
    return without_fonts(picture)


def text_picture(shown: str, title: str) -> str:
    """What a terminal showed, as a picture of it."""
    text = Text.from_ansi(shown.rstrip())
    width = max((line.cell_len for line in text.split("\n")), default=1)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(text, soft_wrap=True)
        return without_fonts(console.export_svg(title=title))


def without_fonts(svg: str) -> str:
    """The picture without fonts that it would have fetched from elsewhere; the reader's own will do."""
    return _FONTS.sub("", svg)


def main() -> None:
    """Write one picture."""
    parser = argparse.ArgumentParser(prog="python -m server.top.picture", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    screen = kinds.add_parser("screen", help="of a running server")
    screen.add_argument("url")
    screen.add_argument("file", type=Path)
    screen.add_argument("--columns", type=int, default=120)
    screen.add_argument("--rows", type=int, default=36)
    screen.add_argument("--seconds", type=float, default=20.0, help="how long to watch first")
    screen.add_argument("--view", choices=VIEWS, default=VIEWS[0])
    text = kinds.add_parser("text", help="of what a terminal showed, from standard input")
    text.add_argument("file", type=Path)
    text.add_argument("--title", default="wattline serve")
    given = parser.parse_args()
    if given.kind == "screen":
        size = (given.columns, given.rows)
        connection = ServerConnection(checked_url(given.url), os.environ.get(KEY_VARIABLE) or None, KEY_VARIABLE)
        picture = asyncio.run(screen_picture(connection, given.url, size, given.seconds, given.view))
    else:
        picture = text_picture(sys.stdin.read(), given.title)
    given.file.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
