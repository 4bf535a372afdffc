"""Who keeps a response that can be asked for again, and whose it is: vLLM stores them in the memory of one engine."""

import re
from dataclasses import dataclass
from typing import Final

# Vouched for by vLLM's and OpenAI's ids; the id is among the first keys of a body and of a stream's first event.
_ID: Final = re.compile(rb'"id"\s*:\s*"(resp_[A-Za-z0-9_-]{1,128})"')
_LOOKED_AT_BYTES: Final = 4096
_MADE_AT: Final = "/v1/responses"
_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The worker that keeps a response, and the tenant that had it made."""

    worker_id: str
    tenant: str


class StoredResponses:
    """Remembers the latest `most` responses."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._responses: dict[str, StoredResponse] = {}

    def remember(self, response_id: str, worker_id: str, tenant: str) -> None:
        self._responses.pop(response_id, None)  # the latest stand last
        self._responses[response_id] = StoredResponse(worker_id, tenant)
        if len(self._responses) > self._most:
            del self._responses[next(iter(self._responses))]

    def find(self, response_id: str) -> StoredResponse | None:
        """None for one that was made before those remembered, or not through this server."""
        return self._responses.get(response_id)

    def see(self, path: str, worker_id: str, tenant: str, beginning: bytes) -> None:
        """Remember a response by the beginning of an answer of status 200, whole or stream; others are none."""
        if path == _MADE_AT and (found := _ID.search(beginning, 0, _LOOKED_AT_BYTES)) is not None:
            self.remember(found[1].decode("ascii"), worker_id, tenant)
