"""Notices that a caller has left while we wait for an engine."""

import asyncio
from typing import Final

from server.asgi import Receive

# Most answers of a small model are over sooner; watching costs a task, so it begins only then.
_WATCH_AFTER_SECONDS: Final = 0.1


class DisconnectWatch:
    """Cancels the task that made it once the caller is gone; `is_gone` tells that apart from other cancellations."""

    def __init__(self, receive: Receive) -> None:
        self.is_gone = False
        self._receive = receive
        task = asyncio.current_task()
        assert task is not None
        self._owner = task
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_WATCH_AFTER_SECONDS, self._begin)
        self._task: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._owner.cancel()
