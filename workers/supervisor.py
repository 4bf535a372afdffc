"""Keeps one worker running: start, ready, lost, start again after a pause. Tells of it in scheduler events."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from scheduler.events import WorkerLost, WorkerReady
from workers.client import EngineClient
from workers.engine import Engine, EngineReady
from workers.errors import EngineStartError

logger = logging.getLogger("wattline.workers")

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
# A worker that served this long has earned a quick restart.
_STABLE_SECONDS: Final = 60.0
_SUSPICION_SECONDS: Final = 0.5


class WorkerState(StrEnum):
    """Where in its life a worker is."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


class Supervisor:
    """Runs an engine until cancelled. `tell` receives WorkerReady and WorkerLost, in order.

    `on_ready` is called before WorkerReady is told, so that whoever speaks to the engine is prepared.
    """

    def __init__(
        self,
        engine: Engine,
        tell: Callable[[WorkerReady | WorkerLost], None],
        on_ready: Callable[[EngineReady], None],
        clock: Callable[[], float],
        max_running_requests: int,
        hardware: str = "unknown",
    ) -> None:
        self.engine = engine
        self.state = WorkerState.STOPPED
        self.restarts = 0
        self._suspected = asyncio.Event()
        self._tell = tell
        self._on_ready = on_ready
        self._clock = clock
        self._max_running_requests = max_running_requests
        self._hardware = hardware

    async def run(self) -> None:
        """Supervise until cancelled.

        Raises:
            EngineStartError: the first start failed; a later failure is retried instead.
        """
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self.state = WorkerState.STARTING
            try:
                await self.engine.start()
                ready = await self.engine.wait_ready()
            except EngineStartError as error:
                if self.restarts == 0:
                    raise
                logger.error("worker %s did not restart: %s", self.engine.worker_id, error)  # noqa: TRY400  # expected
            else:
                served = await self._serve(ready)
                pause = _FIRST_PAUSE_SECONDS if served > _STABLE_SECONDS else pause
            await self.engine.stop(grace_seconds=1.0)
            self.state = WorkerState.BACKING_OFF
            self.restarts += 1
            logger.warning("worker %s restarts in %.0f s", self.engine.worker_id, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def suspect(self) -> None:
        """A request broke off on this worker: find out whether it still answers, and if so announce it anew.

        The scheduler keeps such a request away from the worker until then.
        """
        self._suspected.set()

    def park(self) -> None:
        """Stop the engine until `unpark`."""

    def unpark(self) -> None:
        """Start a parked engine."""

    async def stop(self, grace_seconds: float) -> None:
        """End the engine; call after `run` was cancelled."""
        await self.engine.stop(grace_seconds)
        self.state = WorkerState.STOPPED

    async def _serve(self, ready: EngineReady) -> float:
        """From ready to lost; returns for how many seconds it served."""
        since = self._clock()
        self._suspected.clear()
        worker_id = self.engine.worker_id
        self._on_ready(ready)
        self.state = WorkerState.READY
        self._tell(WorkerReady(worker_id, ready.models, self._max_running_requests, self._hardware))
        logger.info("worker %s is ready: models=%s metered=%s", worker_id, sorted(ready.models), ready.metered)
        cause = await self._until_lost(ready)
        logger.error("worker %s is lost: %s", worker_id, cause)
        self._tell(WorkerLost(worker_id, cause))
        return self._clock() - since

    async def _until_lost(self, ready: EngineReady) -> str:
        """Wait for the engine's end; returns its cause. Clears up suspicions meanwhile."""
        worker_id = self.engine.worker_id
        lost = asyncio.create_task(self.engine.wait_lost(), name=f"wait for the end of {self.engine.worker_id}")
        try:
            while not lost.done():
                suspected = asyncio.create_task(self._suspected.wait())
                await asyncio.wait({lost, suspected}, return_when=asyncio.FIRST_COMPLETED)
                suspected.cancel()
                # An engine that is going down is found dead first; one that is not, answers.
                await asyncio.wait({lost}, timeout=_SUSPICION_SECONDS)
                if not lost.done() and self._suspected.is_set() and await self._answers():
                    self._suspected.clear()
                    self._tell(WorkerReady(worker_id, ready.models, self._max_running_requests, self._hardware))
            return lost.result()
        finally:
            lost.cancel()

    async def _answers(self) -> bool:
        client = EngineClient(self.engine.address)
        try:
            return await client.probe() is not None
        finally:
            await client.close()
