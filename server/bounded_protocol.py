"""uvicorn's HTTP/1.1 protocol with bounds on what one connection can make us keep.

uvicorn takes a head of any size that comes in one piece, any number of fields, and any number of requests sent without
waiting for an answer: it reads on after every answer, however many requests are queued already.
"""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

# Twice what the most generous proxies pass on.
MAX_HEAD_BYTES: Final = 64 * 1024
# Engines refuse more than this themselves (vLLM: 256), and would close the connection we share.
_MAX_FIELDS: Final = 256
# HTTP clients hardly pipeline at all; those that do wait for answers before they send so many.
_MAX_PIPELINED: Final = 64


class _RefusedHeadError(Exception):
    """Stops the parser, which tells of it as of an invalid request."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads that are too large or have too many fields, and pipelines that are too long.

    `refusal` is then the status, message and code to answer with.
    """

    refusal: tuple[int, str, str] | None = None

    def on_headers_complete(self) -> None:
        """Begin to serve the request.

        Raises:
            _RefusedHeadError: it is not to be served.
        """
        if len(self.headers) > _MAX_FIELDS:
            self.refusal = 431, f"the request has more than {_MAX_FIELDS} header fields", "request_head_too_large"
        elif self._size_bytes() > MAX_HEAD_BYTES:
            self.refusal = 431, "the request head is too long", "request_head_too_large"
        elif len(self.pipeline) >= _MAX_PIPELINED:
            self.refusal = 400, f"more than {_MAX_PIPELINED} requests wait for their answers", "too_many_pipelined"
        if self.refusal is not None:
            raise _RefusedHeadError
        super().on_headers_complete()

    def is_answering_earlier(self) -> bool:
        """Whether a refusal now would be written into, or be taken for, the answer to an earlier request."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares that there always is one
        return bool(self.pipeline) or (cycle is not None and cycle.response_started and not cycle.response_complete)

    def _size_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
