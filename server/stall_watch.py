"""Notices a caller that takes nothing: its stream would hold a place in an engine for as long as it likes."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from server.asgi import Message, Send

_STALL_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 15.0


class StallWatch:
    """A `send` that calls `on_stall` when one message has waited for a minute to be taken.

    `held_up_seconds` is for how long messages have waited in all.
    """

    def __init__(self, send: Send, on_stall: Callable[[], None]) -> None:
        self.held_up_seconds = 0.0
        self._send = send
        self._on_stall = on_stall
        self._since_seconds: float | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    async def send(self, message: Message) -> None:
        """Send, under watch."""
        since_seconds = self._since_seconds = time.monotonic()
        await self._send(message)
        self._since_seconds = None
        self.held_up_seconds += time.monotonic() - since_seconds

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._since_seconds is not None and time.monotonic() - self._since_seconds > _STALL_SECONDS:
            self._on_stall()
        else:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
