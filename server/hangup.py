"""SIGHUP means two things: read the configuration again, or that the terminal the server was started from is gone."""

import os
from collections.abc import Callable


class Hangup:
    """Call it on SIGHUP. A server started by hand ends with its terminal, as it always has; any other reloads."""

    def __init__(self, terminal_fd: int, reload: Callable[[], None], stop: Callable[[], None]) -> None:
        self._terminal_fd = terminal_fd
        self._had_terminal = os.isatty(terminal_fd)
        self._reload = reload
        self._stop = stop

    def __call__(self) -> None:
        if self._had_terminal and not os.isatty(self._terminal_fd):
            self._stop()
        else:
            self._reload()
