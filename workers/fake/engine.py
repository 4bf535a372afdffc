"""The fake engine: which requests run, what they used, and its telemetry.

The one place that adds up tokens and outcomes. Knows nothing of HTTP.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from workers.fake.accounts import EnergyAccounts, EnergyCharge
from workers.fake.generation import Generation, Outcome, TokenSink
from workers.fake.generation_request import GenerationRequest
from workers.fake.settings import FakeSettings
from workers.fake.work import EngineWork, decode_tokens

RECENT_REQUESTS = 256  # enough for a reader that polls once a second at test loads
COMPONENT = "cpu"


class Engine:
    """Starts generations and answers for their totals."""

    def __init__(
        self,
        settings: FakeSettings,
        accounts: EnergyAccounts,
        loop: asyncio.AbstractEventLoop,
        clock_nanoseconds: Callable[[], int],
    ) -> None:
        self.settings = settings
        self._accounts = accounts
        self._loop = loop
        self._clock_nanoseconds = clock_nanoseconds
        self._instance_id = secrets.token_hex(8)
        self._work = EngineWork(clock_nanoseconds, settings.decode_tokens_per_second)
        self._running: set[Generation] = set()
        self._recent: deque[tuple[str, Outcome, EnergyCharge]] = deque(maxlen=RECENT_REQUESTS)
        self._requests_total: dict[Outcome, int] = {"completed": 0, "aborted": 0}
        self._prompt_tokens_total = 0
        self._output_tokens_total = 0

    def start(self, request: GenerationRequest, sink: TokenSink) -> Generation:
        """Begins a request; it may be finished already when this returns."""
        generation = Generation(
            request,
            sink,
            settings=self.settings,
            accounts=self._accounts,
            work=self._work,
            loop=self._loop,
            on_end=self._ended,
            clock_nanoseconds=self._clock_nanoseconds,
        )
        self._running.add(generation)
        generation.start()
        return generation

    def telemetry(self) -> dict[str, Any]:
        """What `GET /energy` answers; the energy accounts add up to the counter exactly."""
        energy = self._accounts.snapshot()
        return {
            "instance_id": self._instance_id,
            "model": self.settings.model,
            "source": "estimate",
            "measured": False,
            "counter_microjoules": energy.counter_microjoules,
            "extrapolated_microjoules": 0,
            "accounts_microjoules": {
                COMPONENT: {
                    "prefill": energy.prefill_microjoules,
                    "decode": energy.decode_microjoules,
                    "idle": energy.idle_microjoules,
                    "loading": energy.loading_microjoules,
                    "unattributed": energy.unattributed_microjoules,
                }
            },
            "in_flight_microjoules": {
                COMPONENT: {
                    "prefill": energy.in_flight_prefill_microjoules,
                    "decode": energy.in_flight_decode_microjoules,
                }
            },
            "power_watts": {COMPONENT: energy.power_watts},
            "running_requests": len(self._running),
            "waiting_requests": 0,
            "work": self._work.report(self._running_decode_tokens()),
            "tokens_total": self._tokens_total(),
            "requests_total": dict(self._requests_total),
            "recent_requests": [_recent_request(*entry) for entry in self._recent],
        }

    def _tokens_total(self) -> dict[str, int]:
        prefilled = [generation for generation in self._running if generation.prefilled]
        prompt = sum(generation.request.prompt_tokens for generation in prefilled)
        output = sum(generation.output_tokens for generation in prefilled)
        return {
            "prompt": self._prompt_tokens_total + prompt,
            "output": self._output_tokens_total + output,
        }

    def _running_decode_tokens(self) -> int:
        return sum(
            decode_tokens(generation.request.sequences, generation.tokens_made)
            for generation in self._running
            if generation.prefilled
        )

    def _ended(self, generation: Generation, outcome: Outcome, charge: EnergyCharge) -> None:
        self._running.remove(generation)
        self._requests_total[outcome] += 1
        if generation.prefilled:
            self._prompt_tokens_total += generation.request.prompt_tokens
            self._output_tokens_total += generation.output_tokens
            self._work.decoded(generation.request.sequences, generation.tokens_made)
        self._recent.append((generation.request.request_id, outcome, charge))


def _recent_request(request_id: str, outcome: Outcome, charge: EnergyCharge) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "outcome": outcome,
        "prefill_microjoules": charge.prefill_microjoules,
        "decode_microjoules": charge.decode_microjoules,
    }
