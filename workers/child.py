"""A guarded child process with its output captured."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from workers.guardian import kill_session

_KEPT_LINES: Final = 200
# A line longer than this is an engine's mistake; it is cut, not waited for.
_MAX_LINE_BYTES: Final = 64 * 1024
# Only a process stuck in the kernel outlives SIGKILL for longer, and waiting for that one would not help.
_KILL_SECONDS: Final = 2.0
_KILL_POLL_SECONDS: Final = 0.01


class GuardedChild:
    """One run of a command under `workers.guardian`; ends with us, whatever ends us.

    `on_line` is told each line of its output; the last ones are kept for error reports. `cores` restricts the whole
    process tree to these CPUs. `folder` is removed when it ends.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path, cores: Sequence[int] | None = None
    ) -> None:
        self._folder = folder
        self._command = command
        self._environ = dict(environ)
        self._cores = tuple(cores) if cores else None
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.ReadTransport | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    @property
    def pid(self) -> int | None:
        """Process id of the guardian, which leads the child's session."""
        return self._process.pid if self._process else None

    @property
    def log_tail(self) -> tuple[str, ...]:
        """Its last lines, oldest first."""
        return tuple(self._lines)

    async def start(self, on_line: Callable[[str], None]) -> None:
        """Start it. The guardian is started from this thread, which must live as long as the child may."""
        cores = self._cores
        # A pipe of our own: asyncio would not call a process ended before everything it started has closed its pipe.
        ours, theirs = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "workers.guardian", str(self._folder), "--", *self._command),
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        lines = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
        self._output, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(ours, "rb", buffering=0)
        )
        self._reader = asyncio.create_task(self._read_lines(lines, on_line), name=f"log of {self._process.pid}")

    async def wait(self) -> int:
        """Wait for its end; returns the exit code, 128 + n after signal n."""
        assert self._process is not None
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL for its whole session after `grace_seconds`. Does nothing when it never ran."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_seconds)
        await self._clear_session(self._process.pid)
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._output is not None:
            self._output.close()

    async def _clear_session(self, session_id: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                while not kill_session(session_id):  # noqa: ASYNC110  # the kernel sets no asyncio.Event
                    await asyncio.sleep(_KILL_POLL_SECONDS)

    async def _read_lines(self, lines: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
        while True:
            try:
                raw = await lines.readline()
            except ValueError:  # longer than the limit; asyncio has dropped it
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            on_line(line)
