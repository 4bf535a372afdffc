"""Feeds the core from asyncio and hands its commands to whoever waits for them.

All waiting and all timing is here, no decision is. Everything runs on one event loop's thread: the core is never
entered twice at once.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from scheduler.commands import Command, Dispatch, Reject, RequestCommand
from scheduler.core import Scheduler
from scheduler.errors import ProtocolError, RejectedError, RequestGoneError
from scheduler.events import (
    DispatchFailed,
    DrainStarted,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    WorkerEvent,
)
from scheduler.lifecycle import RequestState

_Answer: TypeAlias = Dispatch | Reject | None
"""None where the request was cancelled or finished by another task while it waited."""


class SchedulerDriver:
    """The asyncio side of one `Scheduler`.

    `clock` gives monotonic seconds. `on_command` sees every command in the order it was given, after whoever waits
    for it was told; it must not raise. Whoever gets a `Dispatch` from `place` or `place_again` owes the driver exactly
    one of `finished`, `cancelled` or `place_again`; more than one does no harm.
    """

    def __init__(
        self,
        core: Scheduler,
        clock: Callable[[], float],
        on_command: Callable[[Command], None] | None = None,
    ) -> None:
        self._core = core
        self._clock = clock
        self._on_command = on_command
        self._waiting: dict[str, asyncio.Future[_Answer]] = {}
        self._drain_watchers: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_at_seconds = 0.0

    async def place(self, arrival: RequestArrived) -> Dispatch:
        """Wait until the request may be sent, and where to. Cancelling the wait withdraws the request.

        Raises:
            RejectedError: the scheduler refuses it.
            RequestGoneError: `cancelled` was called for it meanwhile.
            ProtocolError: its id belongs to another request that is queued or running.
        """
        answer = self._feed(arrival, arrival.request_id)
        if answer is None:
            answer = await self._wait(arrival.request_id)
        if isinstance(answer, Dispatch):
            return answer
        raise RejectedError(answer)

    async def place_again(self, request_id: str, failed_worker_id: str) -> Dispatch:
        """Like `place`, for a request whose worker failed before a byte of the answer was sent.

        Raises:
            RejectedError: the scheduler refuses it.
            RequestGoneError: it was cancelled or finished, before or meanwhile.
            ProtocolError: it is being placed already, or does not run on that worker.
        """
        if request_id in self._waiting:
            raise ProtocolError(f"request {request_id} is being placed already")
        answer = self._feed(DispatchFailed(request_id, failed_worker_id), request_id)
        if answer is None:
            match self._core.state_of(request_id):
                case RequestState.QUEUED:
                    answer = await self._wait(request_id)
                case RequestState.ABSENT:
                    raise RequestGoneError(request_id)
                case RequestState.RUNNING:
                    raise ProtocolError(f"request {request_id} does not run on worker {failed_worker_id}")
        if isinstance(answer, Dispatch):
            return answer
        raise RejectedError(answer)

    def finished(self, event: RequestFinished) -> None:
        """The worker is done with the request and its place is free."""
        self._feed(event)

    def cancelled(self, request_id: str) -> None:
        """Nobody wants the request any more; a task that waits to place it gets `RequestGoneError`."""
        self._feed(RequestCancelled(request_id))
        self._resolve(request_id, None)

    def tell(self, event: WorkerEvent) -> None:
        """Pass on what became of a worker."""
        self._feed(event)

    def start_drain(self) -> None:
        """Refuse every request from now on; those admitted are still placed and served."""
        self._feed(DrainStarted())

    async def drained(self) -> None:
        """Return once no request is queued or running."""
        while self._core.live_requests:
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drain_watchers.append(watcher)
            await watcher

    def close(self) -> None:
        """Stop the timer; queued requests no longer time out. For shutdown, after `drained` or instead of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feed(self, event: Event, asking_id: str | None = None) -> Dispatch | Reject | None:
        """Hand an event to the core and its commands on; the one for `asking_id` is returned instead."""
        return self._deliver(self._core.handle(event, self._clock()), asking_id)

    def _deliver(self, commands: list[Command], asking_id: str | None = None) -> Dispatch | Reject | None:
        answer: Dispatch | Reject | None = None
        # The list grows while it is read: a command that found nobody is fed back and may free a place.
        for command in commands:
            if not isinstance(command, RequestCommand):
                continue
            if command.request_id == asking_id:
                answer = command
            elif not self._resolve(command.request_id, command):
                commands += self._core.handle(RequestCancelled(command.request_id), self._clock())
        if self._on_command is not None:
            for command in commands:
                self._on_command(command)
        self._arm_timer()
        if self._drain_watchers and not self._core.live_requests:
            self._release_drain_watchers()
        return answer

    def _resolve(self, request_id: str, answer: _Answer) -> bool:
        """Wake the task that waits to place the request; False where none does any more."""
        future = self._waiting.pop(request_id, None)
        if future is None or future.done():
            return False
        future.set_result(answer)
        return True

    async def _wait(self, request_id: str) -> Dispatch | Reject:
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            answer = await future
        except asyncio.CancelledError:
            # Still waiting, or sent to a worker by a command that this task will never read: the core must let go.
            # A future cancelled and no longer listed was fed back when its command came; the id may be another's now.
            if self._waiting.get(request_id) is future:
                del self._waiting[request_id]
                self._feed(RequestCancelled(request_id))
            elif not future.cancelled() and isinstance(future.result(), Dispatch):
                self._feed(RequestCancelled(request_id))
            raise
        is_gone = isinstance(answer, Dispatch) and self._core.state_of(request_id) is not RequestState.RUNNING
        if answer is None or is_gone:
            raise RequestGoneError(request_id)
        return answer

    def _arm_timer(self) -> None:
        """See to it that the core is woken in time; a timer that is early is left, it does no harm."""
        due_at_seconds = self._core.next_wakeup()
        if due_at_seconds is None:
            return
        if self._timer is not None:
            if self._timer_due_at_seconds <= due_at_seconds:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer_due_at_seconds = due_at_seconds
        # The clock is injected and need not be the loop's, so only the distance carries over.
        self._timer = loop.call_at(loop.time() + due_at_seconds - self._clock(), self._wake)

    def _wake(self) -> None:
        self._timer = None
        # A loop runs timers up to its clock's resolution early; by the clock it would be too soon, again and again.
        now_seconds = max(self._clock(), self._timer_due_at_seconds)
        due_at_seconds = self._core.next_wakeup()
        if due_at_seconds is not None and due_at_seconds <= now_seconds:
            self._deliver(self._core.wake(now_seconds))
        else:  # what the timer was set for is over; a needless wake would offer held requests again by chance
            self._arm_timer()

    def _release_drain_watchers(self) -> None:
        watchers, self._drain_watchers = self._drain_watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
