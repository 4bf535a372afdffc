"""Callers of several tenants and of every kind, for a while, and what each was told that its request cost."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from bench.prometheus_proof.server import ScrapedServer

_MICROJOULES_PER_JOULE: Final = 1_000_000
_TIMEOUT_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.5  # between requests that are refused at once
_LEAVE_AFTER_EVENTS: Final = 6
_LONG_TOKENS: Final = 400


@dataclass(slots=True)
class Told:
    """What callers hold in their hands: `microjoules` over all answers, how other requests ended, how many they left.

    Energy that an answer says is not known is counted in `unknown`.
    """

    answers: int = 0
    microjoules: int = 0
    unknown: int = 0
    left: int = 0
    statuses: Counter[int] = field(default_factory=Counter)

    def take(self, energy: dict[str, Any]) -> None:
        """Take in an answer's energy block."""
        self.answers += 1
        if energy["energy_joules"] is None:
            self.unknown += 1
        else:
            self.microjoules += round(energy["energy_joules"] * _MICROJOULES_PER_JOULE)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one caller sends again and again."""

    tenant: str
    path: str
    options: dict[str, Any]
    leaves: bool = False
    pause_seconds: float = 0.0


_CHAT: Final = "/v1/chat/completions"
_COMPLETIONS: Final = "/v1/completions"
_STREAM: Final = {"stream": True, "stream_options": {"include_usage": True}}
_ENDLESS: Final = {"ignore_eos": True}
_KINDS: Final[Sequence[_Kind]] = (
    _Kind("team-a", _CHAT, {"max_tokens": 24}),
    _Kind("team-a", _CHAT, {"max_tokens": 32, **_STREAM, **_ENDLESS}),
    _Kind("team-a", _COMPLETIONS, {"max_tokens": 16, "stream": True, "service_tier": "priority", **_ENDLESS}),
    _Kind("team-b", _COMPLETIONS, {"max_tokens": 20, **_ENDLESS}),
    _Kind("team-b", _CHAT, {"max_tokens": 28, "service_tier": "default", **_STREAM}),
    _Kind(
        "team-b",
        _COMPLETIONS,
        {"max_tokens": _LONG_TOKENS, "stream": True, "service_tier": "default", **_ENDLESS},
        leaves=True,
        pause_seconds=_PAUSE_SECONDS,
    ),
    # Its budget is soon spent, and what comes then is refused.
    _Kind("team-c", _COMPLETIONS, {"max_tokens": 24, "service_tier": "default"}, pause_seconds=_PAUSE_SECONDS),
    # No such model, no such key, and more tokens than the engine has room for.
    _Kind("team-a", _COMPLETIONS, {"model": "no-such-model"}, pause_seconds=_PAUSE_SECONDS),
    _Kind("nobody", _COMPLETIONS, {}, pause_seconds=_PAUSE_SECONDS),
    _Kind("team-a", _COMPLETIONS, {"max_tokens": 10_000_000}, pause_seconds=_PAUSE_SECONDS),
)


async def call(server: ScrapedServer, seconds: float) -> Told:
    """Keep one caller of each kind busy for so long; each then waits for its last answer."""
    told = Told()
    deadline_seconds = time.monotonic() + seconds
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(server.url, timeout=timeout) as client, asyncio.TaskGroup() as group:
        for kind in _KINDS:
            group.create_task(_repeat(_asking(client, server, kind, told), kind, deadline_seconds))
    return told


async def _repeat(ask: Callable[[int], Awaitable[None]], kind: _Kind, deadline_seconds: float) -> None:
    number = 0
    while time.monotonic() < deadline_seconds:
        number += 1
        await ask(number)
        await asyncio.sleep(kind.pause_seconds)


def _asking(
    client: aiohttp.ClientSession, server: ScrapedServer, kind: _Kind, told: Told
) -> Callable[[int], Awaitable[None]]:
    headers = {"Authorization": f"Bearer {server.keys.get(kind.tenant, 'sk-wattline-nobody')}"}

    async def ask(number: int) -> None:
        text = f"Chapter {number}. The ship left the harbour at dawn and"
        asked = {"prompt": text} if kind.path == _COMPLETIONS else {"messages": [{"role": "user", "content": text}]}
        body = {"model": server.model, **asked, **kind.options}
        async with client.post(kind.path, json=body, headers=headers) as response:
            if response.status != 200:
                told.statuses[response.status] += 1
            elif kind.leaves:
                await _leave(response)
                told.left += 1
            elif kind.options.get("stream"):
                told.take(_streamed_energy(await response.text()))
            else:
                told.take((await response.json())["energy"])

    return ask


async def _leave(response: aiohttp.ClientResponse) -> None:
    """Read a little and close the connection in mid-answer."""
    events = 0
    async for line in response.content:
        events += line.startswith(b"data: ")
        if events == _LEAVE_AFTER_EVENTS:
            break
    response.close()


def _streamed_energy(text: str) -> dict[str, Any]:
    """The comment that stands before the end of a stream."""
    energy: dict[str, Any] = json.loads(text.split("\n\n")[-3].removeprefix(": energy "))
    return energy
