"""Keeps one worker running: start, ready, lost, start again after a pause; parks it when told to.

Tells of it in scheduler events. Whether a worker is hung is judged elsewhere, what to do about it here.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Any, Final

from scheduler.events import WorkerEvent, WorkerLost, WorkerParked, WorkerReady
from workers.client import EngineClient
from workers.engine import Engine, EngineReady
from workers.errors import EngineStartError
from workers.loss import WorkerLoss
from workers.orders import Orders

logger = logging.getLogger("wattline.workers")

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
# A worker that served this long has earned a quick restart.
_STABLE_SECONDS: Final = 60.0
_SUSPICION_SECONDS: Final = 0.5
_RESTART_GRACE_SECONDS: Final = 1.0
# A parked engine has nothing to do but to end; more than the guardian's own grace and the killing after it.
_PARK_GRACE_SECONDS: Final = 12.0
# A start is stuck once it has taken so many times as long as the last one, and no less than ten minutes; both are
# guesses. Of the first start nobody knows how long it may take: it may have a model to fetch.
_STUCK_STARTS: Final = 10.0
_STUCK_SECONDS: Final = 600.0


class WorkerState(StrEnum):
    """Where in its life a worker is."""

    STARTING = "starting"
    READY = "ready"
    PARKING = "parking"
    PARKED = "parked"
    BACKING_OFF = "backing_off"
    STOPPED = "stopped"


class Supervisor:
    """Runs an engine until cancelled. `tell` receives WorkerReady, WorkerParked and WorkerLost, in order.

    `on_ready` is called before WorkerReady is told, so that whoever speaks to the engine is prepared. `hardware` is
    what WorkerReady says the engine runs on. `is_parked` while nothing but an order is missing for it to serve, and on
    its way up from there. `losses` counts how it was lost. `before_parking` is awaited while a worker that is to be
    parked still answers.
    """

    def __init__(
        self,
        engine: Engine,
        tell: Callable[[WorkerEvent], None],
        on_ready: Callable[[EngineReady], None],
        clock: Callable[[], float],
        max_running_requests: int,
        *,
        hardware: str = "unknown",
        before_parking: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.engine = engine
        self.state = WorkerState.STOPPED
        self.is_parked = False
        self.restarts = 0
        self.losses: Counter[WorkerLoss] = Counter()
        self.start_seconds: float | None = None
        self._hardware = hardware
        self._before_parking = before_parking
        self._suspected = asyncio.Event()
        self._orders = Orders()
        self._tell = tell
        self._on_ready = on_ready
        self._clock = clock
        self._max_running_requests = max_running_requests
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    async def run(self) -> None:
        """Supervise until cancelled.

        Raises:
            EngineStartError: the very first start failed; a later failure is told as WorkerLost, and retried.
        """
        is_first = True
        while True:
            while self._orders.must_park:
                await self._stay_parked()
                is_first = False
            try:
                ready = await self._start()
            except EngineStartError as error:
                if is_first:
                    raise
                self.is_parked = False
                logger.error("worker %s did not start: %s", self._worker_id, error)  # noqa: TRY400  # expected
                self.losses[WorkerLoss.NOT_STARTED] += 1
                self._tell(WorkerLost(self._worker_id, f"it did not start: {error}"))
                await self._back_off(_RESTART_GRACE_SECONDS)
            else:
                is_first = False
                if ready is not None:
                    await self._serve(ready)

    def park(self) -> None:
        """Stop the engine's process and tell WorkerParked; it starts again after `unpark`.

        Given while it starts or backs off, that is cut short. An engine that ends before the order is carried out is
        parked all the same. Does nothing where it is parked already, or not ours to stop.
        """
        if self.engine.can_park:
            self._orders.park()
        else:
            logger.warning("worker %s cannot be parked: its process is not ours", self._worker_id)

    def unpark(self) -> None:
        """Start a parked engine; one that is just being parked starts once it is. Does nothing to any other."""
        self._orders.unpark()

    def hang(self, cause: str, loss: WorkerLoss = WorkerLoss.HUNG) -> None:
        """The engine makes no progress, or says itself that it is dead.

        Tells WorkerLost, ends every process of it at once, and starts it again.
        Does nothing unless it is ready. Not ours to end, it is taken back once it answers a probe. WorkerLost has been
        told when this returns: what breaks off with the engine is not to be sent to it again.
        """
        if self.state is WorkerState.READY:
            self._orders.hang()
            self._tell_lost(cause, loss)

    def suspect(self) -> None:
        """A request broke off on this worker: find out whether it still answers, and if so announce it anew.

        The scheduler keeps such a request away from the worker until then.
        """
        self._suspected.set()

    async def stop(self, grace_seconds: float) -> None:
        """End the engine; call after `run` was cancelled."""
        await self.engine.stop(grace_seconds)
        self.state = WorkerState.STOPPED

    @property
    def _worker_id(self) -> str:
        return self.engine.worker_id

    async def _start(self) -> EngineReady | None:
        """From start to ready; None where it is to be parked instead.

        Raises:
            EngineStartError: it did not come up, or not in time.
        """
        self.state = WorkerState.STARTING
        started_at_seconds = self._clock()
        await self.engine.start()
        ready = await self._unless_ordered(self.engine.wait_ready())
        if ready is not None and self.engine.can_park:
            self.start_seconds = self._clock() - started_at_seconds
        return ready

    async def _unless_ordered(self, coming_up: Coroutine[Any, Any, EngineReady]) -> EngineReady | None:
        started = asyncio.create_task(coming_up, name=f"wait for {self._worker_id}")
        ordered = asyncio.create_task(self._orders.given())
        try:
            limit_seconds = self._start_limit_seconds()
            await asyncio.wait({started, ordered}, timeout=limit_seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._orders.must_park:
                return None
            if not started.done():
                raise EngineStartError(f"{self._worker_id} was not ready after {limit_seconds:.0f} s")
            return started.result()
        finally:
            ordered.cancel()
            started.cancel()
            await asyncio.gather(started, return_exceptions=True)

    def _start_limit_seconds(self) -> float | None:
        return None if self.start_seconds is None else max(_STUCK_SECONDS, _STUCK_STARTS * self.start_seconds)

    async def _serve(self, ready: EngineReady) -> None:
        """From ready to its end; what is to follow is decided by the orders then."""
        since_seconds = self._clock()
        self._suspected.clear()
        self._on_ready(ready)
        self.state = WorkerState.READY
        self.is_parked = False
        self._announce(ready)
        logger.info("worker %s is ready: models=%s metered=%s", self._worker_id, sorted(ready.models), ready.metered)
        cause = await self._until_over(ready)
        if self._orders.take_hang():
            # A stopped process does not hear that it should end; who waits for its answers has waited long enough.
            await self._back_off(grace_seconds=0.0)
        elif self._orders.must_park:
            logger.info("worker %s is to be parked%s", self._worker_id, f" and is lost: {cause}" if cause else "")
            if self._before_parking is not None and cause is None:
                await self._before_parking()
                self._orders.take_hang()  # given up while it told its last: parked all the same
        else:
            if self._clock() - since_seconds > _STABLE_SECONDS:
                self._pause_seconds = _FIRST_PAUSE_SECONDS
            self._tell_lost(cause or "it ended", WorkerLoss.DIED if self.engine.can_park else WorkerLoss.SILENT)
            await self._back_off(_RESTART_GRACE_SECONDS)

    def _tell_lost(self, cause: str, loss: WorkerLoss) -> None:
        self.losses[loss] += 1
        self.state = WorkerState.BACKING_OFF
        logger.error("worker %s is lost: %s", self._worker_id, cause)
        # The pause and another start like the last; nobody can say when somebody else's server returns.
        returns_in_seconds = None if self.start_seconds is None else self._pause_seconds + self.start_seconds
        self._tell(WorkerLost(self._worker_id, cause, returns_in_seconds=returns_in_seconds))

    def _announce(self, ready: EngineReady) -> None:
        self._tell(
            WorkerReady(
                self._worker_id,
                ready.models,
                self._max_running_requests,
                hardware=self._hardware,
                can_park=self.engine.can_park,
                start_seconds=self.start_seconds,
            )
        )

    async def _until_over(self, ready: EngineReady) -> str | None:
        """Wait for the engine's end or for an order; returns the cause of its end. Clears up suspicions meanwhile."""
        lost = asyncio.create_task(self.engine.wait_lost(), name=f"wait for the end of {self._worker_id}")
        suspicions = asyncio.create_task(self._clear_suspicions(ready), name=f"suspicions of {self._worker_id}")
        ordered = asyncio.create_task(self._orders.given())
        tasks = {lost, suspicions, ordered}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if suspicions.done():
                suspicions.result()
            return lost.result() if lost.done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _clear_suspicions(self, ready: EngineReady) -> None:
        while True:
            await self._suspected.wait()
            # An engine that is going down is found dead first; one that is not, answers.
            await asyncio.sleep(_SUSPICION_SECONDS)
            if await self._answers() and self.state is WorkerState.READY and not self._orders.must_park:
                self._suspected.clear()
                self._announce(ready)

    async def _answers(self) -> bool:
        client = EngineClient(self.engine.address)
        try:
            return await client.probe() is not None
        finally:
            await client.close()

    async def _stay_parked(self) -> None:
        self.state = WorkerState.PARKING
        self.is_parked = True
        await self.engine.stop(_PARK_GRACE_SECONDS)
        self._orders.parked()
        self.state = WorkerState.PARKED
        logger.info("worker %s is parked", self._worker_id)
        self._tell(WorkerParked(self._worker_id))
        await self._orders.may_run()
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    async def _back_off(self, grace_seconds: float) -> None:
        """End what is left of it, and wait; an order to park cuts that short."""
        self.state = WorkerState.BACKING_OFF
        await self.engine.stop(grace_seconds)
        pause_seconds = self._pause_seconds
        self._pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        logger.warning("worker %s restarts in %.0f s", self._worker_id, pause_seconds)
        ordered = asyncio.create_task(self._orders.given())
        try:
            await asyncio.wait({ordered}, timeout=pause_seconds)
        finally:
            ordered.cancel()
        if not self._orders.must_park:
            self.restarts += 1
