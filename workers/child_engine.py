"""An engine that is a child process of ours on a private unix socket: vLLM, or the fake one for tests."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from workers.child import GuardedChild
from workers.client import EngineClient
from workers.engine import EngineAddress, EngineReady
from workers.errors import EngineStartError

_POLL_SECONDS: Final = 0.25
_LONGEST_FOLDER: Final = 70

CommandBuilder = Callable[[Path], Sequence[str]]


class ChildEngine:
    """Starts `command(socket_path)` afresh on every `start`, and knows it ready when it lists its models.

    The socket lies in a directory that only this user can enter. `on_line(worker_id, line)` is told the output.
    """

    def __init__(
        self,
        worker_id: str,
        command: CommandBuilder,
        environ: Mapping[str, str],
        on_line: Callable[[str, str], None],
        cores: Sequence[int] | None = None,
    ) -> None:
        self._worker_id = worker_id
        self._command = command
        self._environ = environ
        self._on_line = on_line
        self._cores = cores
        self._directory: Path | None = None
        self._child: GuardedChild | None = None

    @property
    def worker_id(self) -> str:
        return self._worker_id

    @property
    def address(self) -> EngineAddress:
        """Where the present run listens; every start has a socket of its own."""
        if self._directory is None:
            raise EngineStartError(f"{self._worker_id} was not started")
        return EngineAddress(origin="http://engine", socket_path=self._directory / "engine.sock")

    @property
    def can_park(self) -> bool:
        return True

    @property
    def pid(self) -> int | None:
        """Process id of the session the engine runs in."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Begin starting the process.

        Raises:
            EngineStartError: the operating system would not start it.
        """
        try:
            self._directory = _private_folder()
        except OSError as error:
            raise EngineStartError(f"{self._worker_id} has no place for its socket: {error}") from error
        command = self._command(self._directory / "engine.sock")
        self._child = GuardedChild(command, self._environ, self._directory, self._cores)
        try:
            await self._child.start(lambda line: self._on_line(self._worker_id, line))
        except OSError as error:
            raise EngineStartError(f"{self._worker_id} could not be started: {error}") from error

    async def wait_ready(self) -> EngineReady:
        """Poll until it answers; a child that ends before that has failed to start.

        Raises:
            EngineStartError: it ended; carries its last lines.
        """
        child = self._running()
        ended = asyncio.create_task(child.wait())
        client = EngineClient(self.address)
        try:
            while not ended.done():
                if (ready := await client.probe()) is not None:
                    return ready
                await asyncio.wait((ended,), timeout=_POLL_SECONDS)
        finally:
            ended.cancel()
            await client.close()
        # The output is drained by the time the guardian has gone and its pipe is closed; let the reader see that.
        await asyncio.sleep(_POLL_SECONDS)
        raise EngineStartError(f"{self._worker_id} ended with exit code {await child.wait()}", child.log_tail)

    async def wait_lost(self) -> str:
        """Return, with the cause, when the process has ended."""
        return f"its process ended with exit code {await self._running().wait()}"

    async def stop(self, grace_seconds: float) -> None:
        """End the process and everything it started; remove its socket."""
        if self._child is not None:
            await self._child.stop(grace_seconds)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _running(self) -> GuardedChild:
        if self._child is None:
            raise EngineStartError(f"{self._worker_id} was not started")
        return self._child


def _private_folder() -> Path:
    """A new folder with mode 0700, short enough for a socket in it: their paths end at 107 bytes."""
    short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
    return Path(tempfile.mkdtemp(prefix="wattline-", dir=None if short else "/tmp"))  # noqa: S108  # mkdtemp is safe there
