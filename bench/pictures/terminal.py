"""A server in a terminal of its own, so that what an operator reads there can be shown; tmux is that terminal."""

import contextlib
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import PROJECT_FOLDER, ChildFailedError

_SIZE: Final = ("-x", "132", "-y", "40")
_POLL_SECONDS: Final = 0.2
_END_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Terminal:
    """One tmux server of ours, by the name of its socket."""

    name: str

    def shown(self) -> str:
        """What stands in it now, colours included."""
        return self._tmux("capture-pane", "-e", "-p", "-t", "0").strip("\n")

    def interrupt(self) -> None:
        """Ctrl-C, and wait until the process has ended."""
        self._tmux("send-keys", "-t", "0", "C-c")
        deadline_seconds = time.monotonic() + _END_SECONDS
        while self._tmux("list-panes", "-F", "#{pane_dead}").strip() != "1" and time.monotonic() < deadline_seconds:
            time.sleep(_POLL_SECONDS)

    def start(self, command: Sequence[str], folder: Path) -> None:
        # `remain-on-exit`: what was said last is still to be read, and tmux adds nothing to it.
        environ = ["env", f"PYTHONPATH={PROJECT_FOLDER}"]
        self._tmux(
            *("new-session", "-d", *_SIZE, "-c", str(folder), shlex.join([*environ, *command])),
            *(";", "set-option", "-g", "remain-on-exit", "on", ";", "set-option", "-g", "status", "off"),
            *(";", "set-option", "-g", "remain-on-exit-format", ""),
        )

    def end(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-L", self.name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_there() -> bool:
    """Whether this machine has tmux."""
    return shutil.which("tmux") is not None


@contextlib.contextmanager
def terminal(name: str, command: Sequence[str], folder: Path, url: str, ready_seconds: float) -> Iterator[Terminal]:
    """Runs a server in a terminal, in this folder, for the time of the block, which begins once it is ready.

    Raises:
        ChildFailedError: it was not ready in time; the message holds what it showed.
    """
    running = Terminal(name)
    running.start(command, folder)
    try:
        deadline_seconds = time.monotonic() + ready_seconds
        while not _is_ready(url):
            if time.monotonic() > deadline_seconds:
                raise ChildFailedError(f"the server was not ready in time:\n{running.shown()}")
            time.sleep(_POLL_SECONDS)
        yield running
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            running.interrupt()
        running.end()


def draw(shown: str, file: Path, title: str) -> None:
    """What a terminal showed, as SVG."""
    command = [sys.executable, "-m", "server.top.picture", "text", str(file), "--title", title]
    subprocess.run(command, check=True, input=shown, text=True, cwd=PROJECT_FOLDER)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=1) as answer:  # noqa: S310  # our own http://
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
