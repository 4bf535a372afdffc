"""Requests of four kinds at once, and what became of each as its caller saw it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import aiohttp
import openai

COMPLETIONS: Final = "/v1/completions"
# An answer that takes longer is taken for one that never comes: an engine's start may lie in it.
LOST_AFTER_SECONDS: Final = 180.0


class End(StrEnum):
    """What a caller got."""

    ANSWERED = "answered"
    ERROR_EVENT = "error event after it had begun"
    FAILED = "refused or failed before its first byte"
    LOST = "lost"


class MixedLoad:
    """Sends whole and streamed completions through OpenAI's client and through bare HTTP, a quarter each.

    `ends` counts what became of them, `begun` how many streams are under way, `waiting` how many requests of which no
    byte has come. `problems` describes every end but an answer.
    """

    def __init__(self, url: str, output_tokens: int) -> None:
        self.sent = 0
        self.begun = 0
        self.waiting = 0
        self.ends: Counter[End] = Counter()
        self.problems: list[str] = []
        self._url = url
        self._body = {"model": "smollm2", "max_tokens": output_tokens, "temperature": 0, "ignore_eos": True}

    async def run(self, requests: int, concurrency: int) -> None:
        """Send so many, so many of them at a time."""
        slots = asyncio.Semaphore(concurrency)
        async with self._clients() as (client, session):

            async def one(number: int) -> None:
                async with slots:
                    await self._ask(client, session, number)

            await asyncio.gather(*(one(number) for number in range(requests)))

    async def trickle(self, is_over: Callable[[], bool], pause_seconds: float) -> None:
        """One after the other, with a pause in between, until told that it is over."""
        async with self._clients() as (client, session):
            while not is_over():
                await self._ask(client, session, self.sent)
                await asyncio.sleep(pause_seconds)

    def summary(self) -> str:
        return f"{self.sent} sent: " + ", ".join(f"{self.ends[end]} {end}" for end in End)

    def _clients(self) -> "_Clients":
        return _Clients(self._url)

    async def _ask(self, client: openai.AsyncOpenAI, session: aiohttp.ClientSession, number: int) -> None:
        body = self._body | {"prompt": f"Chapter {number}. The ship left the harbour at dawn and"}
        self.sent += 1
        caller = _Caller(self)
        try:
            async with asyncio.timeout(LOST_AFTER_SECONDS):
                # By twos, so that two workers that take turns get some of each.
                match number // 2 % 4:
                    case 0:
                        end = await caller.openai_stream(client, body)
                    case 1:
                        end = await caller.openai_whole(client, body)
                    case 2:
                        end = await caller.bare_stream(session, body)
                    case _:
                        end = await caller.bare_whole(session, body)
        except (TimeoutError, aiohttp.ClientError, openai.APIConnectionError) as error:
            end = End.LOST
            caller.problem = f"{type(error).__name__}: {error}"
        caller.over()
        self.ends[end] += 1
        if end is not End.ANSWERED:
            self.problems.append(f"{end}: {caller.problem}")


class _Clients:
    """One client of each sort, neither of which tries again by itself."""

    def __init__(self, url: str) -> None:
        self._openai = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=2 * LOST_AFTER_SECONDS
        )
        self._session = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=2 * LOST_AFTER_SECONDS))

    async def __aenter__(self) -> tuple[openai.AsyncOpenAI, aiohttp.ClientSession]:
        return self._openai, self._session

    async def __aexit__(self, *_: object) -> None:
        await self._openai.close()
        await self._session.close()


class _Caller:
    """One request of a load; `problem` says what was wrong with its answer."""

    def __init__(self, load: MixedLoad) -> None:
        self.problem = ""
        self._load = load
        self._has_begun = False
        load.waiting += 1

    def over(self) -> None:
        if self._has_begun:
            self._load.begun -= 1
        else:
            self._load.waiting -= 1

    async def openai_whole(self, client: openai.AsyncOpenAI, body: dict[str, Any]) -> End:
        try:
            answer = await client.completions.create(**_openai_arguments(body))
        except openai.APIStatusError as error:
            self.problem = f"{error.status_code} {error.message}"
            return End.FAILED
        return self._whole(answer.model_dump(), body)

    async def openai_stream(self, client: openai.AsyncOpenAI, body: dict[str, Any]) -> End:
        is_done = False
        try:
            stream = await client.completions.create(**_openai_arguments(body), stream=True)
            async for chunk in stream:
                assert not is_done, "something followed the end"
                self._begin()
                is_done = chunk.choices[0].finish_reason is not None
        except openai.APIConnectionError:
            raise
        except openai.APIError as error:
            self.problem = error.message
            return End.ERROR_EVENT if self._has_begun else End.FAILED
        self.problem = "" if is_done else "the stream ended without a finish reason"
        return End.ANSWERED if is_done else End.LOST

    async def bare_whole(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> End:
        async with session.post(COMPLETIONS, json=body) as response:
            text = await response.read()
        if response.status != 200:
            self.problem = f"{response.status} {text.decode(errors='replace')}"
            return End.FAILED
        return self._whole(json.loads(text), body)

    async def bare_stream(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> End:
        failure: object = None
        is_done = False
        async with session.post(COMPLETIONS, json=body | {"stream": True}) as response:
            if response.status != 200:
                self.problem = f"{response.status} {await response.text()}"
                return End.FAILED
            async for line in response.content:
                if not line.startswith(b"data: "):
                    continue
                assert not is_done, "something followed the end"
                data = line.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    is_done = True
                elif "error" in (event := json.loads(data)):
                    failure = event["error"]
                else:
                    assert failure is None, "an answer went on after its error"
                    self._begin()
        if not is_done:
            self.problem = f"the stream ended without [DONE] (error {failure})"
            return End.LOST
        self.problem = str(failure)
        return End.ANSWERED if failure is None else End.ERROR_EVENT if self._has_begun else End.FAILED

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._load.waiting -= 1
            self._load.begun += 1

    def _whole(self, answer: dict[str, Any], body: dict[str, Any]) -> End:
        """Each token of it, once, and its joules."""
        tokens = answer["usage"]["completion_tokens"]
        if tokens != body["max_tokens"] or answer["energy"]["energy_joules"] is None:
            self.problem = f"{tokens} tokens, energy {answer['energy']}"
            return End.LOST
        return End.ANSWERED


def _openai_arguments(body: dict[str, Any]) -> dict[str, Any]:
    ours = {"ignore_eos": body["ignore_eos"]}
    return {name: value for name, value in body.items() if name not in ours} | {"extra_body": ours}
