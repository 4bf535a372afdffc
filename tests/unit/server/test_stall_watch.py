import asyncio

import pytest

from server import stall_watch
from server.asgi import Message
from server.stall_watch import StallWatch


async def test_a_message_that_nobody_takes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall_watch, "_STALL_SECONDS", 0.05)
    monkeypatch.setattr(stall_watch, "_LOOK_SECONDS", 0.02)
    stalled = asyncio.Event()
    taken: list[Message] = []

    async def take(message: Message) -> None:
        taken.append(message)
        if message["type"] == "never":
            await asyncio.Event().wait()

    watch = StallWatch(take, stalled.set)
    for _ in range(3):
        await watch.send({"type": "at once"})
        await asyncio.sleep(0.03)
    assert not stalled.is_set(), "a quiet stream is no stalled one"
    stuck = asyncio.create_task(watch.send({"type": "never"}))
    async with asyncio.timeout(2):
        await stalled.wait()
    stuck.cancel()
    watch.close()


async def test_how_long_messages_waited_is_known() -> None:
    async def take(message: Message) -> None:
        if message["type"] == "slow":
            await asyncio.sleep(0.05)

    watch = StallWatch(take, lambda: None)
    await watch.send({"type": "at once"})
    assert watch.held_up_seconds < 0.04
    await watch.send({"type": "slow"})
    await watch.send({"type": "slow"})
    assert watch.held_up_seconds >= 0.09
    watch.close()
