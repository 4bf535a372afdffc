"""Keeps one worker running: start, ready, lost, start again after a pause. Tells of it in scheduler events."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from scheduler.events import WorkerLost, WorkerReady
from workers.engine import Engine, EngineReady
from workers.errors import EngineStartError

logger = logging.getLogger("wattline.workers")

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
# A worker that served this long has earned a quick restart.
_STABLE_SECONDS: Final = 60.0


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
    ) -> None:
        self.engine = engine
        self.state = WorkerState.STOPPED
        self.restarts = 0
        self._tell = tell
        self._on_ready = on_ready
        self._clock = clock
        self._max_running_requests = max_running_requests

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

    async def stop(self, grace_seconds: float) -> None:
        """End the engine; call after `run` was cancelled."""
        await self.engine.stop(grace_seconds)
        self.state = WorkerState.STOPPED

    async def _serve(self, ready: EngineReady) -> float:
        """From ready to lost; returns for how many seconds it served."""
        since = self._clock()
        worker_id = self.engine.worker_id
        self._on_ready(ready)
        self.state = WorkerState.READY
        self._tell(WorkerReady(worker_id, ready.models, self._max_running_requests))
        logger.info("worker %s is ready: models=%s metered=%s", worker_id, sorted(ready.models), ready.metered)
        cause = await self.engine.wait_lost()
        logger.error("worker %s is lost: %s", worker_id, cause)
        self._tell(WorkerLost(worker_id, cause))
        return self._clock() - since
