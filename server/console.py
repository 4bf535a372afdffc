"""What the operator is told at the terminal of the server's life: starting, ready, stopping, summed up.

Where logs are for machines the same sentences go to the log, so that every line of output is one JSON object. On a
terminal there is colour, unless NO_COLOR is set, and what is waited for is shown in place.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from server.banner import BannerLine
from server.logs import LogFormat
from server.printable import printable

logger = logging.getLogger("wattline.server")

_LABEL_WIDTH: Final = 10
Show = Callable[[str], None]


class Console:
    """Says one sentence at a time. `terminal` is standard error where a person looks at it, None where not."""

    def __init__(self, log_format: LogFormat, terminal: RichConsole | None = None) -> None:
        self._log_format = log_format
        self._terminal = terminal if log_format == "text" else None

    def say(self, text: str) -> None:
        if self._log_format == "json":
            logger.info(text)
            return
        with contextlib.suppress(OSError):  # whoever read our output may be gone; the callers are not
            sys.stderr.write(f"wattline: {printable(text)}\n")
            sys.stderr.flush()

    def warn(self, text: str) -> None:
        if self._log_format == "json":
            logger.warning(text)
        elif self._terminal is not None:
            with contextlib.suppress(OSError):
                self._terminal.print(
                    Text.assemble(("wattline: WARNING: ", "bold yellow"), printable(text)), soft_wrap=True
                )
        else:
            self.say(f"WARNING: {text}")

    def banner(self, heading: str, lines: Sequence[BannerLine]) -> None:
        """Everything about the start at once."""
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                print_banner(self._terminal, heading, lines)
            return
        self.say(heading)
        for line in lines:
            if line.is_warning:
                self.warn(line.text)
            elif self._log_format == "json":
                self.say(f"{line.label}: {line.text}")
            else:
                self.say(f"{line.label:<{_LABEL_WIDTH}} {line.text}")

    @contextlib.contextmanager
    def in_place(self) -> Iterator[Show | None]:
        """Something that shows a text in place of the one before, gone at the end; None where there is no terminal."""
        if self._terminal is None:
            yield None
            return
        with self._terminal.status("") as status, _logged_above():
            yield lambda text: status.update(Text(printable(text)))


def open_terminal(environ: Mapping[str, str] = os.environ) -> RichConsole | None:
    """Standard error where it is a terminal that can move its cursor; rich itself honours NO_COLOR."""
    if not sys.stderr.isatty() or environ.get("TERM") in {None, "", "dumb", "unknown"}:
        return None
    return RichConsole(stderr=True, highlight=False)


def print_banner(terminal: RichConsole, heading: str, lines: Sequence[BannerLine]) -> None:
    """The banner as a person sees it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for line in lines:
        words = printable(line.text)
        text = Text(f"WARNING: {words}", style="bold yellow") if line.is_warning else Text(words)
        text.highlight_regex(r"https?://\S+", "underline")
        text.highlight_regex(r"\bnot measured\b", "yellow")
        text.highlight_regex(r"(?<!not )\bmeasured\b", "green")
        grid.add_row(f"  {line.label}", text)
    name, separator, rest = heading.partition(", ")
    terminal.print()
    terminal.print(Text.assemble((name, "bold green"), separator, rest), soft_wrap=True)
    terminal.print(grid)
    terminal.print()


@contextlib.contextmanager
def _logged_above() -> Iterator[None]:
    """Send log lines through what `sys.stderr` is meanwhile, which keeps them clear of the text shown in place."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    before = [(handler, handler.setStream(sys.stderr)) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in before:
            if stream is not None:
                handler.setStream(stream)


def address_of(listener: socket.socket, *, tls: bool) -> str:
    """The URL callers use, as far as we can know."""
    scheme = "https" if tls else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
