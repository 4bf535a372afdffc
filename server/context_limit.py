"""Refuses at once what the engine could only refuse later: a prompt that does not fit the model's context.

A request may wait long before an engine sees it, so its length is judged as it arrives. Where the text alone cannot
tell, a ready engine counts its tokens (vLLM's `/tokenize`, which does not queue). Whoever cannot be judged here goes
on, and the engine judges.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from server.api_error import ApiError
from server.generation_request import GenerationRequest
from server.token_question import TokenCount, TokenQuestion, read_token_count, token_question

# Those whose limit is the model's. Embeddings may be cut into pieces and batches hold several prompts.
_PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
# No model served has less; below it nobody is asked anything.
_SHORTEST_CONTEXT_TOKENS: Final = 512
# A remote engine may be restarted with another limit at the same address.
_LISTING_SECONDS: Final = 60.0
_LISTING_TIMEOUT_SECONDS: Final = 1.0
# A hundred thousand tokens take a fast tokeniser about a tenth of a second; an engine may be busy.
_COUNT_TIMEOUT_SECONDS: Final = 3.0
# One that did not answer, or has no such route, is not asked for this long.
_SILENT_SECONDS: Final = 30.0
_NO_SUCH_ROUTE: Final = frozenset({404, 405, 501})
_MOST_ASKED: Final = 2


class EngineVoice(Protocol):
    """What must be asked of an engine; `workers.client.EngineClient` has it."""

    async def get_json(self, target: str, timeout_seconds: float, /) -> Any | None: ...  # noqa: ANN401  # JSON

    async def post_json(self, target: str, body: bytes, timeout_seconds: float, /) -> tuple[int, bytes] | None: ...


@dataclass(slots=True)
class _Known:
    """What an engine has told. `limits` are tokens by model."""

    limits: dict[str, int] = field(default_factory=dict)
    asked_at_seconds: float | None = None
    silent_until_seconds: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ContextLimits:
    """The context length of each model, and who exceeds it. `ready` gives the ready engines that serve a model."""

    def __init__(self, ready: Callable[[str], Iterable[EngineVoice]], clock: Callable[[], float]) -> None:
        self._ready = ready
        self._clock = clock
        self._known: WeakKeyDictionary[EngineVoice, _Known] = WeakKeyDictionary()
        self._last_limits: dict[str, int] = {}

    async def prompt_tokens(self, path: str, model: str, request: GenerationRequest, body: bytes) -> int | None:
        """The prompt's tokens where they are known exactly.

        Raises:
            ApiError: 400, with the numbers, when prompt and wanted output cannot fit the context of the model.
        """
        prompt = request.prompt
        if prompt.field is None or request.is_truncated or path not in _PATHS:
            return prompt.tokens
        wanted_tokens = request.max_output_tokens or 0
        most_tokens = prompt.most_tokens + wanted_tokens
        if most_tokens <= _SHORTEST_CONTEXT_TOKENS:
            return prompt.tokens
        limit = await self._limit(model)
        if limit is None or most_tokens <= limit:
            return prompt.tokens
        if prompt.longest_tokens is not None:
            _judge(request, prompt.longest_tokens, limit, is_exact=True)
            return prompt.tokens
        if wanted_tokens > limit:
            _judge(request, 0, limit, is_exact=False)
        question = token_question(path, model, prompt.field, body, limit)
        count = await self._count(model, question)
        if count is None:
            return None
        _judge(request, count.tokens, count.max_model_len or limit, is_exact=question.is_exact)
        return count.tokens if question.is_exact else None

    # -- limits --------------------------------------------------------------------------------------------------

    async def _limit(self, model: str) -> int | None:
        """The longest context that a ready engine has for the model; while none is ready, the last one known."""
        engines = list(self._ready(model))
        stale = [engine for engine in engines if not self._is_fresh(self._known.setdefault(engine, _Known()))]
        if stale:
            await asyncio.gather(*(self._learn(engine) for engine in stale))
        limits = [limit for engine in engines if (limit := self._known[engine].limits.get(model)) is not None]
        if limits:
            self._last_limits[model] = max(limits)
        return self._last_limits.get(model)

    async def _learn(self, engine: EngineVoice) -> None:
        known = self._known[engine]
        async with known.lock:
            if self._is_fresh(known):  # whoever held the lock has asked
                return
            listing = await engine.get_json("/v1/models", _LISTING_TIMEOUT_SECONDS)
            known.asked_at_seconds = self._clock()
            known.limits |= _limits_in(listing)

    def _is_fresh(self, known: _Known) -> bool:
        return known.asked_at_seconds is not None and self._clock() - known.asked_at_seconds < _LISTING_SECONDS

    # -- counting ------------------------------------------------------------------------------------------------

    async def _count(self, model: str, question: TokenQuestion) -> TokenCount | None:
        """Ask one engine, or a second one where the first does not answer."""
        now_seconds = self._clock()
        engines = [
            (engine, known)
            for engine in self._ready(model)
            if (known := self._known.setdefault(engine, _Known())).silent_until_seconds <= now_seconds
        ]
        for engine, known in engines[:_MOST_ASKED]:
            answer = await engine.post_json("/tokenize", question.body, _COUNT_TIMEOUT_SECONDS)
            if answer is None or answer[0] in _NO_SUCH_ROUTE:
                known.silent_until_seconds = self._clock() + _SILENT_SECONDS
                continue
            # An engine that does not like the request will say why when it gets it.
            return read_token_count(answer[1]) if answer[0] == 200 else None
        return None


def _limits_in(listing: Any) -> dict[str, int]:  # noqa: ANN401  # JSON of an engine
    """Context lengths by model, of those that tell one; LoRA adapters and older engines do not."""
    entries = listing.get("data") if isinstance(listing, dict) else None
    limits: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        limit = entry.get("max_model_len") if isinstance(entry, dict) else None
        if type(limit) is int and limit > 0:
            limits[str(entry.get("id"))] = limit
    return limits


def _judge(request: GenerationRequest, tokens: int, limit: int, *, is_exact: bool) -> None:
    """Refuse a request whose prompt has so many tokens, or at least so many, if that and its output are too much.

    Raises:
        ApiError: they are.
    """
    wanted_tokens = request.max_output_tokens or 0
    if tokens + wanted_tokens <= limit:
        return
    prompt = f"the prompt has {'' if is_exact else 'at least '}{tokens} tokens"
    wanted = f"{request.max_output_field} asks for {wanted_tokens}"
    param = request.prompt.field
    if tokens > limit:
        problem = prompt
    elif wanted_tokens > limit:
        problem, param = wanted, request.max_output_field
    else:
        problem = f"{prompt} and {wanted} more"
    message = f"This model's maximum context length is {limit} tokens, but {problem}."
    raise ApiError(400, message, "context_length_exceeded", param)
