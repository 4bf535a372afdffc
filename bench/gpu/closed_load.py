"""A closed-loop streaming client: so many streams, each sending its next request when the last is answered.

Lengths are fixed (`ignore_eos`), prompts are random token ids, so that no prefix is found in a cache. The first request
of each stream is of a random part of the length, so that streams do not end in step.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

_KEPT_BYTES: Final = 16_384
"""Enough for the last events of a stream: usage, energy, [DONE]."""
_ENERGY_COMMENT: Final = b": energy "


@dataclass(frozen=True, slots=True)
class Load:
    """`streams` at a time until `seconds` have passed; then those in flight are awaited."""

    streams: int
    seconds: float
    prompt_tokens: int = 200
    output_tokens: int = 400
    vocabulary: int = 49_000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its caller saw it, in seconds of the monotonic clock; `energy` is None where none was told."""

    sent_at_seconds: float
    first_at_seconds: float
    last_at_seconds: float
    output_tokens: int
    energy: dict[str, Any] | None

    @property
    def seconds_per_token(self) -> float | None:
        """The mean time from one token to the next."""
        if self.output_tokens < 2:
            return None
        return (self.last_at_seconds - self.first_at_seconds) / (self.output_tokens - 1)


async def drive(origin: str, model: str, load: Load) -> list[Answer]:
    """Sends the load. An answer that is no success raises `aiohttp.ClientResponseError`."""
    deadline = time.monotonic() + load.seconds
    answers: list[Answer] = []
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, raise_for_status=True, base_url=origin
    ) as session:

        async def stream(number: int) -> None:
            chance = random.Random(load.seed * 100_003 + number)
            length = chance.randint(min(8, load.output_tokens), load.output_tokens)
            while time.monotonic() < deadline:
                prompt = [chance.randrange(10, load.vocabulary) for _ in range(load.prompt_tokens)]
                answers.append(await _ask(session, _body(model, prompt, length)))
                length = load.output_tokens

        async with asyncio.TaskGroup() as group:
            for number in range(load.streams):
                group.create_task(stream(number))
    return answers


def _body(model: str, prompt: list[int], output_tokens: int) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _ask(session: aiohttp.ClientSession, body: dict[str, Any]) -> Answer:
    sent = time.monotonic()
    first = last = None
    tail = b""
    async with session.post("/v1/completions", json=body) as response:
        async for chunk in response.content.iter_any():
            if b'"text"' in chunk:
                last = time.monotonic()
                first = first or last
            tail = (tail + chunk)[-_KEPT_BYTES:]
    if first is None or last is None:
        raise RuntimeError(f"no token came: {tail[-500:]!r}")
    return Answer(sent, first, last, _output_tokens(tail), _energy(tail))


def _output_tokens(tail: bytes) -> int:
    """What the usage event says, the last one with data before [DONE]."""
    for line in reversed(tail.split(b"\n")):
        if line.startswith(b"data: {") and b'"usage":{' in line:
            tokens: int = json.loads(line[len(b"data: ") :])["usage"]["completion_tokens"]
            return tokens
    raise RuntimeError(f"no usage came: {tail[-500:]!r}")


def _energy(tail: bytes) -> dict[str, Any] | None:
    for line in reversed(tail.split(b"\n")):
        if line.startswith(_ENERGY_COMMENT):
            told: dict[str, Any] = json.loads(line[len(_ENERGY_COMMENT) :])
            return told
    return None
