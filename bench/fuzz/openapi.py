"""The OpenAPI fuzz: requests that schemathesis makes of our own description, some that fit it and some that do not.

Needs schemathesis, which is among the development tools. Every request is sent once, over loopback, and judged by its
answer alone; what it leaves behind is looked at when all are through.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from bench.fuzz.verdict import fault_of_answer

_ANSWER_SECONDS: Final = 10.0
_SLOW_SECONDS: Final = 1.0
_REPEATS: Final = 2
_BATCH: Final = 50  # requests made from one start of hypothesis, which then looks where it has not been
_MOST_FAULTS: Final = 20
_MODES: Final = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@dataclass(slots=True)
class OpenApiFuzz:
    """What happened: requests by operation, answers by status, and what was wrong, with a command that repeats it."""

    seed: int
    requests: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "requests": self.requests,
            "by_operation": dict(self.by_operation),
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "slowest_seconds": self.slowest_seconds,
            "faults": self.faults,
        }


def description_of(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The server's own OpenAPI description."""
    response = requests.get(f"{url}/openapi.json", headers=dict(headers), timeout=_ANSWER_SECONDS)
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def fuzz_openapi(
    url: str, description: dict[str, Any], count: int, seed: int, headers: Mapping[str, str] | None = None
) -> OpenApiFuzz:
    """Sends exactly `count` requests, spread over all operations; those with nothing to vary get few."""
    schema = schemathesis.openapi.from_dict(description)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    sources = [(operation, mode) for operation in operations for mode in _MODES]
    fuzz = OpenApiFuzz(seed)
    with requests.Session() as session:
        sender = _Sender(url, session, dict(headers or {}), fuzz)
        round_number = 0
        while sources and fuzz.requests < count:
            remaining = []
            for index, (operation, mode) in enumerate(sources):
                most = min(_BATCH, count // (2 * len(sources)) + 1, count - fuzz.requests)
                before = fuzz.requests
                if most > 0:
                    _draw(operation.as_strategy(generation_mode=mode), sender, most, f"{seed}.{round_number}.{index}")
                if fuzz.requests > before + most // 2:  # else there is nothing more to be had from it
                    remaining.append((operation, mode))
            sources = remaining
            round_number += 1
    return fuzz


class _Sender:
    """Sends a case and judges its answer."""

    def __init__(self, url: str, session: requests.Session, headers: dict[str, str], fuzz: OpenApiFuzz) -> None:
        self._url = url
        self._session = session
        self._headers = headers
        self._fuzz = fuzz
        self._left = 0

    def start_batch(self, most: int) -> None:
        """Send no more than that many of the next ones: hypothesis tries more where it takes some to be invalid."""
        self._left = most

    def send(self, case: Case[Any]) -> None:
        prepared = self._prepared(case) if self._left else None
        if prepared is None:
            return
        self._left -= 1
        fuzz = self._fuzz
        fuzz.requests += 1
        fuzz.by_operation[f"{case.method} {case.operation.path}"] += 1
        fault = self._fault(prepared)
        if fault is not None and len(fuzz.faults) < _MOST_FAULTS:
            fuzz.faults.append(f"{fault}\n  {case.as_curl_command()[:2000]}")

    def _prepared(self, case: Case[Any]) -> requests.PreparedRequest | None:
        """The request as it goes over the wire, None where the client's library cannot send such a thing."""
        arguments = case.as_transport_kwargs(base_url=self._url)
        arguments["headers"] = {**dict(arguments.get("headers") or {}), **self._headers}
        known = {"method", "url", "headers", "files", "data", "params", "auth", "cookies", "json"}
        try:
            request = requests.Request(**{key: value for key, value in arguments.items() if key in known})
            return self._session.prepare_request(request)
        except (requests.RequestException, UnicodeError, ValueError):
            return None

    def _fault(self, prepared: requests.PreparedRequest) -> str | None:
        """What is wrong. A request that was answered late is sent again: the machine may have been busy."""
        for attempt in range(_REPEATS + 1):
            started_at_seconds = time.monotonic()
            try:
                response = self._session.send(prepared, timeout=_ANSWER_SECONDS, allow_redirects=False)
            except requests.RequestException as error:
                return f"no answer: {type(error).__name__}: {error}"
            seconds = time.monotonic() - started_at_seconds
            if attempt == 0:
                self._fuzz.by_status[response.status_code] += 1
                self._fuzz.slowest_seconds = max(self._fuzz.slowest_seconds, seconds)
            kind = response.headers.get("content-type", "")
            fault = fault_of_answer(response.status_code, kind, response.content, has_body=prepared.method != "HEAD")
            if fault is not None or seconds <= _SLOW_SECONDS:
                return fault
        return f"answered after {seconds:.1f} s, {_REPEATS + 1} times"


def _draw(strategy: Any, sender: _Sender, count: int, seed: str) -> None:  # noqa: ANN401  # a strategy of Cases
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=strategy)
    def send(case: Case[Any]) -> None:
        sender.send(case)

    sender.start_batch(count)
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # a GET without parameters cannot be wrong, say
        send()
