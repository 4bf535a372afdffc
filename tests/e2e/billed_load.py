"""Two hundred requests of every kind, some of them given up by their callers, and what each was told of its energy."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.e2e.wattline_process import microjoules

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
REQUESTS: Final = 200
CONCURRENCY: Final = 16
_EVERY_LEAVES: Final = 13  # every so many callers one gives up
_PREFIX: Final = "The ship's log of the long voyage north, kept by the second mate, first day of the ice. " * 4
_LONG_PROMPT: Final = "lorem ipsum dolor sit amet " * 90


@dataclass(frozen=True, slots=True)
class Leave:
    """When the caller closes the connection: after so many streamed lines with data, or after a time."""

    after_events: int | None = None
    after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    request_id: str
    path: str
    body: dict[str, Any]
    leave: Leave | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, between two instants of the monotonic clock. `energy` is the block as it was received."""

    request_id: str
    started_at_seconds: float
    ended_at_seconds: float
    energy: dict[str, Any]

    @property
    def microjoules(self) -> int | None:
        joules = self.energy["energy_joules"]
        return None if joules is None else microjoules(joules)


@dataclass(slots=True)
class Bills:
    """What the callers of a load hold in their hands at its end."""

    answers: list[Answer] = field(default_factory=list)
    left: list[Request] = field(default_factory=list)
    half_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, end: Answer | Request) -> None:
        """Take in an answer, or a request that its caller has given up."""
        if isinstance(end, Answer):
            self.answers.append(end)
        else:
            self.left.append(end)
        if self.ended >= REQUESTS // 2:
            self.half_ended.set()

    @property
    def ended(self) -> int:
        return len(self.answers) + len(self.left)


def planned_requests() -> list[Request]:
    """Chat and completions, streamed with and without usage, whole, two choices, several prompts, shared prefixes."""
    endless = {"ignore_eos": True}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    kinds: list[Callable[[int], tuple[str, dict[str, Any]]]] = [
        lambda i: _chat(f"Tell me of the number {i}.", max_tokens=8 + i % 41),
        lambda i: _chat(f"Name {i} birds.", max_tokens=24, stream=True),
        lambda i: _completion(f"{i} and one is", max_tokens=1),
        lambda i: _chat(f"Greet {i} people.", max_tokens=20, n=2, **endless),
        lambda i: _chat(f"Count from {i}.", max_tokens=32, **usage),
        lambda i: _completion([f"The {i}th day", f"The {i}th night"], max_tokens=12, stream=True, **endless),
        lambda i: _completion(f"{_PREFIX} On day {i}", max_tokens=16, **endless),
        lambda i: _completion([f"{_PREFIX} Noon {i}:", f"{_PREFIX} Dusk {i}:", "Dawn:"], max_tokens=9, **endless),
        lambda i: _completion(f"Number {i}: {_LONG_PROMPT}", max_tokens=8, **usage),
        lambda i: _completion(f"Story {i}:", max_tokens=14, n=2, stream=True, **endless),
        lambda i: _chat(f"Spell {i}.", max_tokens=40, stop=["e"]),
    ]
    planned = []
    for number in range(REQUESTS):
        name = f"books-{number:03d}"
        if number % _EVERY_LEAVES == _EVERY_LEAVES - 1:
            planned.append(_given_up(name, number // _EVERY_LEAVES))
        else:
            planned.append(Request(name, *kinds[number % len(kinds)](number)))
    return planned


def _given_up(name: str, turn: int) -> Request:
    """Callers that leave before the first token, in mid-stream, and while they wait for a whole answer."""
    long = {"max_tokens": 600, "ignore_eos": True}
    stages: list[tuple[Leave, tuple[str, dict[str, Any]]]] = [
        (Leave(after_seconds=0.04), _completion(f"Early {turn}: {_LONG_PROMPT}", stream=True, **long)),
        (Leave(after_events=6 + turn), _chat(f"Tell me a long story, number {turn}.", stream=True, **long)),
        (Leave(after_seconds=0.7), _chat(f"Write a long letter, number {turn}.", **long)),
        (Leave(after_events=10), _completion(f"{_PREFIX} Log {turn}", n=2, stream=True, **long)),
    ]
    leave, (path, body) = stages[turn % len(stages)]
    return Request(name, path, body, leave)


def _chat(text: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "smollm2", "messages": [{"role": "user", "content": text}], **options}


def _completion(prompt: str | list[str], **options: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"model": "smollm2", "prompt": prompt, **options}


async def send(url: str, requests: list[Request], bills: Bills) -> None:
    """Send them in order, `CONCURRENCY` at a time. What they come to is added to `bills` as they end."""
    slots = asyncio.Semaphore(CONCURRENCY)
    limits = httpx.Limits(max_connections=2 * CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, timeout=120, verify=False, limits=limits) as client:

        async def in_turn(request: Request) -> None:
            async with slots:
                bills.add(await (_ask(client, request) if request.leave is None else _leave(client, request)))

        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(in_turn(request))


async def _ask(client: httpx.AsyncClient, request: Request) -> Answer:
    started_at_seconds = time.monotonic()
    response = await client.post(request.path, json=request.body, headers={"X-Request-Id": request.request_id})
    ended_at_seconds = time.monotonic()
    assert response.status_code == 200, response.text
    energy = _streamed_energy(response.text) if request.body.get("stream") else response.json()["energy"]
    return Answer(request.request_id, started_at_seconds, ended_at_seconds, energy)


def _streamed_energy(text: str) -> dict[str, Any]:
    """The comment before the end; a chunk of usage, where one was asked for, must say the same.

    Comments that keep a slow answer's connection alive may stand anywhere.
    """
    *events, comment, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    energy: dict[str, Any] = json.loads(comment.removeprefix(": energy "))
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(": keep-alive")]
    assert [chunk["energy"] for chunk in chunks if "energy" in chunk] in ([], [energy])
    return energy


async def _leave(client: httpx.AsyncClient, request: Request) -> Request:
    """Ask and close the connection long before the answer can have ended."""
    leave = request.leave
    assert leave is not None
    headers = {"X-Request-Id": request.request_id}
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(leave.after_seconds),
            client.stream("POST", request.path, json=request.body, headers=headers) as response,
        ):
            seen = 0
            async for line in response.aiter_lines():
                assert line != "data: [DONE]"
                seen += line.startswith("data: ")
                if seen == leave.after_events:
                    break
    return request
