"""Adds the energy block to responses by splicing bytes; what the engine wrote is never parsed and rewritten.

Pure functions on bytes and one small stateful reader of server-sent events. Safe against text that merely looks like
JSON: inside a JSON string every quote is escaped, so the unescaped byte patterns searched for here cannot occur there.
"""

from collections.abc import Callable
from typing import Final

_DONE: Final = b"data: [DONE]"
_USAGE: Final = b'"usage":{'
_NO_CHOICES: Final = b'"choices":[]'
_COMPLETED: Final = (b'"type":"response.completed"', b'"type":"response.incomplete"')
_MESSAGE_DELTA: Final = b'"type":"message_delta"'
_MARKERS: Final = (_DONE, _NO_CHOICES, *_COMPLETED, _MESSAGE_DELTA)
_EVENT_END: Final = b"\n\n"


def splice_into_object(body: bytes, block: bytes) -> bytes | None:
    """Add `"energy": block` as the last key of the JSON object in `body`; None when `body` is not an object."""
    end = len(body.rstrip())
    if end < 2 or body[end - 1 : end] != b"}" or body.lstrip()[:1] != b"{":
        return None
    comma = b"" if body[: end - 1].strip() == b"{" else b","
    return b"".join((body[: end - 1], comma, b'"energy":', block, body[end - 1 :]))


def splice_into_usage(event: bytes, block: bytes) -> bytes:
    """Add the block as the first key of the last `usage` object in an event; unchanged when there is none."""
    at = event.rfind(_USAGE)
    if at < 0:
        return event
    at += len(_USAGE)
    comma = b"" if event[at : at + 1] == b"}" else b","
    return b"".join((event[:at], b'"energy":', block, comma, event[at:]))


def energy_comment(block: bytes) -> bytes:
    """The SSE comment line that carries the block; every SSE parser skips comments."""
    return b": energy " + block + _EVENT_END


class StreamAnnotator:
    """Passes server-sent events through and adds the energy where the stream tells of its end.

    On the usage chunk (sent only to callers who asked for usage) and on the final events of the Responses and
    Anthropic formats the block becomes a key; before `data: [DONE]`, or after those final events, a comment line.
    `block` is asked once, when first needed: by then the engine has ended every sequence of the request.
    """

    def __init__(self, block: Callable[[], bytes]) -> None:
        self._ask = block
        self._block: bytes | None = None
        self._commented = False

    def may_end(self, chunk: bytes) -> bool:
        """Whether `chunk` may hold an event that the block belongs to; no other needs to be fed."""
        return any(marker in chunk for marker in _MARKERS)

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to send for `chunk`. Chunks are whole events, as vLLM writes them."""
        if not self.may_end(chunk):
            return chunk
        return _EVENT_END.join(self._annotate(event) for event in chunk.split(_EVENT_END))

    def _annotate(self, event: bytes) -> bytes:
        data = event[event.rfind(b"\ndata: ") + 1 :] if not event.startswith(b"data: ") else event
        if data == _DONE:
            return self._comment() + event
        if _NO_CHOICES in data and _USAGE in data:
            return self._spliced_data(event)
        if any(marker in data for marker in _COMPLETED) or (_MESSAGE_DELTA in data and _USAGE in data):
            comment = self._comment().removesuffix(_EVENT_END)
            return splice_into_usage(event, self._energy()) + (_EVENT_END + comment if comment else b"")
        return event

    def _spliced_data(self, event: bytes) -> bytes:
        head, brace, tail = event.rpartition(b"}")
        return b"".join((head, b',"energy":', self._energy(), brace, tail)) if brace else event

    def _energy(self) -> bytes:
        if self._block is None:
            self._block = self._ask()
        return self._block

    def _comment(self) -> bytes:
        if self._commented:
            return b""
        self._commented = True
        return energy_comment(self._energy())
