"""Callers of several tenants, each of whom asks, waits for the answer, rests, and asks again."""

import contextlib
import json
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_ANSWER_SECONDS: Final = 120
_QUESTIONS: Final = (
    "Why is the sky blue?",
    "Name three uses of a heat pump.",
    "Explain what a watt is to a child.",
    "Write two lines about the sea.",
    "What does a scheduler do? Answer shortly, and give an example from daily life that anybody will know.",
    "List the planets from the sun outwards.",
    "How does a battery store energy, and why does it lose some of it while nobody uses it?",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, in which tier; `key` is None where the server has no keys."""

    key: str | None
    tier: str
    rest_seconds: float


@contextlib.contextmanager
def traffic(url: str, callers: Mapping[int, Caller]) -> Iterator[None]:
    """Callers, by the seed of their choices, who ask for the time of the block."""
    over = threading.Event()
    threads = [threading.Thread(target=_ask_on, args=(url, seed, caller, over)) for seed, caller in callers.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _ask_on(url: str, seed: int, caller: Caller, over: threading.Event) -> None:
    choice = random.Random(seed)
    while not over.is_set():
        body = {
            "messages": [{"role": "user", "content": choice.choice(_QUESTIONS)}],
            "max_tokens": choice.randint(12, 80),
            "service_tier": caller.tier,
            "stream": True,
        }
        headers = {"Content-Type": "application/json"}
        if caller.key is not None:
            headers["Authorization"] = f"Bearer {caller.key}"
        request = urllib.request.Request(  # noqa: S310  # our own http://
            f"{url}/v1/chat/completions", json.dumps(body).encode(), headers
        )
        # One that is refused, for its budget or its tier, is part of the picture.
        with contextlib.suppress(urllib.error.URLError):
            _read(request)
        over.wait(choice.random() * caller.rest_seconds)


def _read(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310  # our own http://
        answer.read()
