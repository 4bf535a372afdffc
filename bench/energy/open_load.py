"""An open-loop streaming client: sends each request at its own time, and writes down what its caller saw."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.energy.arrivals import PlannedRequest

_DONE: Final = "[DONE]"
_SHOWN_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its caller saw it; seconds are from the moment it was sent.

    `error` says what went wrong, None where it was answered in full; the others are None as far as they are not known.
    `late_seconds` is how much later than planned this client sent it.
    """

    late_seconds: float
    total_seconds: float
    error: str | None = None
    first_token_seconds: float | None = None
    last_token_seconds: float | None = None
    output_tokens: int | None = None
    energy_joules: float | None = None

    @property
    def seconds_per_token(self) -> float | None:
        """The mean time from one token to the next; None with fewer than two."""
        if self.first_token_seconds is None or self.last_token_seconds is None or (self.output_tokens or 0) < 2:
            return None
        assert self.output_tokens is not None
        return (self.last_token_seconds - self.first_token_seconds) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send requests: an origin, and a unix socket where it is reached over one."""

    origin: str
    model: str
    socket_path: Path | None = None


async def drive(target: Target, planned: Sequence[PlannedRequest], request_seconds: float) -> tuple[Answer, ...]:
    """Sends every request at its time and waits for all answers, in the order of the requests.

    One that is not answered in full `request_seconds` after it was sent is given up and counts as failed.
    """
    connector: aiohttp.BaseConnector
    connector = aiohttp.TCPConnector(limit=0) if target.socket_path is None else _unix_connector(target.socket_path)
    started_at_seconds = time.perf_counter()
    async with aiohttp.ClientSession(target.origin, connector=connector) as session, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_send(session, target.model, one, started_at_seconds, request_seconds)) for one in planned
        ]
    return tuple(task.result() for task in tasks)


def _unix_connector(path: Path) -> aiohttp.UnixConnector:
    return aiohttp.UnixConnector(path=str(path), limit=0)


async def _send(
    session: aiohttp.ClientSession,
    model: str,
    planned: PlannedRequest,
    started_at_seconds: float,
    request_seconds: float,
) -> Answer:
    due_at_seconds = started_at_seconds + planned.at_seconds
    await asyncio.sleep(max(0.0, due_at_seconds - time.perf_counter()))
    sent_at_seconds = time.perf_counter()
    stream = _Stream(sent_at_seconds)
    error = None
    try:
        async with (
            asyncio.timeout(request_seconds),
            session.post("/v1/chat/completions", json=_body(model, planned)) as response,
        ):
            if response.status != 200:
                error = f"status {response.status}: {(await response.text())[:_SHOWN_CHARACTERS]}"
            else:
                async for line in response.content:
                    stream.take(line)
                error = stream.error(planned.output_tokens)
    except TimeoutError:
        error = f"not answered within {request_seconds:g} s"
    except (aiohttp.ClientError, OSError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Answer(
        late_seconds=sent_at_seconds - due_at_seconds,
        total_seconds=time.perf_counter() - sent_at_seconds,
        error=error,
        first_token_seconds=stream.first_token_seconds,
        last_token_seconds=stream.last_token_seconds,
        output_tokens=stream.output_tokens,
        energy_joules=stream.energy_joules,
    )


def _body(model: str, planned: PlannedRequest) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": planned.prompt}],
        "max_tokens": planned.output_tokens,
        "temperature": 0,
        # vLLM's: the answer has exactly max_tokens, so that every run does the same work.
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


class _Stream:
    """What the lines of one stream of server-sent events tell."""

    def __init__(self, sent_at_seconds: float) -> None:
        self.first_token_seconds: float | None = None
        self.last_token_seconds: float | None = None
        self.output_tokens: int | None = None
        self.energy_joules: float | None = None
        self._sent_at_seconds = sent_at_seconds
        self._failure: str | None = None
        self._is_done = False

    def take(self, line: bytes) -> None:
        """Takes in one line. vLLM's first event, which carries the role alone, comes with the first token."""
        if not line.startswith(b"data:"):
            return
        data = line.removeprefix(b"data:").strip().decode(errors="replace")
        if data == _DONE:
            self._is_done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            self._failure = "an event that is not JSON"
            return
        if "error" in event:
            self._failure = f"error in the stream: {json.dumps(event['error'])[:_SHOWN_CHARACTERS]}"
        if event.get("choices"):
            self.last_token_seconds = time.perf_counter() - self._sent_at_seconds
            self.first_token_seconds = self.first_token_seconds or self.last_token_seconds
        if event.get("usage"):
            self.output_tokens = event["usage"].get("completion_tokens")
        if event.get("energy"):
            self.energy_joules = event["energy"].get("energy_joules")

    def error(self, expected_tokens: int) -> str | None:
        """What is wrong with the stream as a whole, once it has ended; None where nothing is."""
        if self._failure is not None or not self._is_done:
            return self._failure or "the stream broke off"
        if self.output_tokens != expected_tokens:
            return f"{self.output_tokens} tokens instead of {expected_tokens}"
        return None
