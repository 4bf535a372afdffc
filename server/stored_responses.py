"""Which worker keeps a response that can be asked for again: vLLM stores them in the memory of one engine."""

import re
from typing import Final

# Vouched for by vLLM's and OpenAI's ids; the id is among the first keys of a body and of a stream's first event.
_ID: Final = re.compile(rb'"id"\s*:\s*"(resp_[A-Za-z0-9_-]{1,128})"')
_LOOKED_AT_BYTES: Final = 4096
_MADE_AT: Final = "/v1/responses"
_MOST: Final = 10_000


class StoredResponses:
    """Remembers the latest `most` responses; what was made before is asked of any worker."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._worker_ids: dict[str, str] = {}

    def remember(self, response_id: str, worker_id: str) -> None:
        self._worker_ids.pop(response_id, None)  # the latest stand last
        self._worker_ids[response_id] = worker_id
        if len(self._worker_ids) > self._most:
            del self._worker_ids[next(iter(self._worker_ids))]

    def worker_of(self, response_id: str) -> str | None:
        return self._worker_ids.get(response_id)

    def see(self, path: str, worker_id: str, beginning: bytes) -> None:
        """Remember a response by the beginning of an answer of status 200, whole or stream; others are none."""
        if path == _MADE_AT and (found := _ID.search(beginning, 0, _LOOKED_AT_BYTES)) is not None:
            self.remember(found[1].decode("ascii"), worker_id)
