"""A process on a terminal of its own, and what it draws there."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

from tests.integration.processes import clean_environ, eventually
from workers.guardian import die_with_parent


class TerminalProcess:
    """A running `wattline …`; `seen` is everything it has written so far."""

    def __init__(self, process: subprocess.Popen[bytes], terminal_fd: int) -> None:
        self.process = process
        self.seen = bytearray()
        self._terminal_fd = terminal_fd

    async def shows(self, words: str) -> None:
        """Wait until these words, or this control sequence, were written."""

        async def has_shown() -> bool:
            self.read()
            return words.encode() in self.seen

        await eventually(has_shown)

    async def ends(self) -> int:
        """The exit code."""

        async def has_ended() -> bool:
            self.read()  # or it would wait for a reader
            return self.process.poll() is not None

        await eventually(has_ended)
        self.read()
        return self.process.wait()

    def read(self) -> None:
        with contextlib.suppress(OSError):  # nothing yet, or its end is closed
            while chunk := os.read(self._terminal_fd, 65536):
                self.seen.extend(chunk)

    def text(self) -> str:
        return self.seen.decode(errors="replace")


@contextlib.contextmanager
def on_a_terminal(*arguments: str, **environ: str) -> Iterator[TerminalProcess]:
    """Start `wattline` with these arguments on a terminal of 80 columns and 24 rows; it is ended at the end."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=clean_environ() | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | environ,
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),  # noqa: PLW1509  # a killed test run leaves nothing
    )
    os.close(theirs)
    try:
        yield TerminalProcess(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
