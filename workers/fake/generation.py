"""One request being generated: timers make its tokens due, and a sink takes them.

Owns the request's place in the energy accounts. Knows nothing of HTTP: back-pressure arrives as a sink that
is not writable and a later `resume()`.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from workers.fake.accounts import EnergyAccounts, EnergyCharge
from workers.fake.generation_request import GenerationRequest
from workers.fake.settings import FakeSettings
from workers.fake.work import EngineWork

# Tokens per write of an instant stream: large enough to be cheap, small enough to meet back-pressure early.
INSTANT_TOKENS_PER_WRITE = 64
# uvloop's timers have a resolution of one millisecond and may fire a little early.
EARLY_TIMER_TOKENS = 1e-3

Outcome = Literal["completed", "aborted"]


class TokenSink(Protocol):
    """Where the tokens of one request go."""

    @property
    def writable(self) -> bool:
        """False while the client is slower than the engine."""
        ...

    def tokens(self, first: int, count: int) -> None:
        """Takes `count` more tokens of each sequence, the first of them being number `first`."""
        ...

    def finished(self, charge: EnergyCharge) -> None:
        """Takes the end of the generation."""
        ...

    def crashed(self) -> None:
        """Takes the staged fault: the engine is gone in the middle of the answer."""
        ...


class Generation:
    """Drives one request from prefill to its end; ends exactly once, as completed or aborted."""

    def __init__(
        self,
        request: GenerationRequest,
        sink: TokenSink,
        *,
        settings: FakeSettings,
        accounts: EnergyAccounts,
        work: EngineWork,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[["Generation", Outcome, EnergyCharge], None],
        clock_nanoseconds: Callable[[], int],
    ) -> None:
        self.request = request
        self._sink = sink
        self._settings = settings
        self._accounts = accounts
        self._work = work
        self._is_advancing = False
        self._loop = loop
        self._on_end = on_end
        self._clock_nanoseconds = clock_nanoseconds
        self._timer: asyncio.Handle | None = None
        self._energy = accounts.begin()
        self._decode_started_at_nanoseconds: int | None = None
        self._ended = False
        self._produced = 0
        crash = request.crash_after_tokens
        self._crashes = crash is not None and crash <= request.max_tokens
        self._limit = crash if crash is not None and self._crashes else request.max_tokens

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def prefilled(self) -> bool:
        return self._decode_started_at_nanoseconds is not None

    @property
    def output_tokens(self) -> int:
        """Tokens made so far by all sequences, delivered or not."""
        return self.tokens_made * self.request.sequences

    @property
    def tokens_made(self) -> int:
        """Tokens made so far by each sequence."""
        return self._produced if self.request.stream else max(self._produced, self._due_tokens())

    def start(self) -> None:
        """Begins the prefill; an instant, non-streamed request is finished when this returns."""
        if self.request.hang:
            return
        self._work.begin_prefill()
        speed = self._settings.prefill_tokens_per_second
        if speed:
            self._timer = self._loop.call_later(self.request.prompt_tokens / speed, self._begin_decode)
        else:
            self._begin_decode()

    def resume(self) -> None:
        """The sink is writable again."""
        if self.prefilled and self._timer is None and not self._ended:
            self._advance()

    def cancel(self) -> None:
        """Nobody waits for the answer any more: stops at once and charges what was used."""
        if not self._ended:
            self._end("aborted")

    def _begin_decode(self) -> None:
        self._timer = None
        self._work.end_prefill(self.request.prompt_tokens)
        self._accounts.begin_decode(self._energy)
        self._decode_started_at_nanoseconds = self._clock_nanoseconds()
        self._advance()

    def _advance(self) -> None:
        """Delivers every token that is due, as far as the sink takes them."""
        self._timer = None
        self._mark_advancing(advances=True)
        due = self._due_tokens()
        if not self.request.stream:
            self._produced = due
        limit = self._settings.tokens_per_write or INSTANT_TOKENS_PER_WRITE
        while self._produced < due and self._sink.writable:
            count = min(due - self._produced, limit)
            first = self._produced
            self._produced += count
            self._sink.tokens(first, count)
            if self._settings.tokens_per_write:
                break
        if self._ended:
            return
        if self._produced >= self._limit:
            self._complete()
        elif self._sink.writable:
            self._timer = self._loop.call_later(self._next_token_seconds(), self._advance)
        else:
            self._mark_advancing(advances=False)

    def _mark_advancing(self, *, advances: bool) -> None:
        if advances is not self._is_advancing:
            self._is_advancing = advances
            if advances:
                self._work.begin_decode()
            else:
                self._work.end_decode()

    def _due_tokens(self) -> int:
        """Tokens of each sequence that the decode speed has made by now; the first comes with the prefill."""
        if self._decode_started_at_nanoseconds is None:
            return 0
        speed = self._settings.decode_tokens_per_second
        if not speed:
            return self._limit
        seconds = (self._clock_nanoseconds() - self._decode_started_at_nanoseconds) / 1e9
        return min(self._limit, 1 + int(seconds * speed + EARLY_TIMER_TOKENS))

    def _next_token_seconds(self) -> float:
        """Time until the next token to deliver: a stream's next, or the last one of a plain answer."""
        speed = self._settings.decode_tokens_per_second
        if not speed or self._decode_started_at_nanoseconds is None:
            return 0.0
        seconds = (self._clock_nanoseconds() - self._decode_started_at_nanoseconds) / 1e9
        index = self._produced if self.request.stream else self._limit - 1
        return max(index / speed - seconds, 0.0)

    def _complete(self) -> None:
        if self._crashes:
            self._end("aborted")
            self._sink.crashed()
        else:
            self._sink.finished(self._end("completed"))

    def _end(self, outcome: Outcome) -> EnergyCharge:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.prefilled:
            self._mark_advancing(advances=False)
        elif not self.request.hang:
            self._work.end_prefill(None)
        charge = self._accounts.end(self._energy)
        self._on_end(self, outcome, charge)
        return charge
