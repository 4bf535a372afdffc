"""The end of an answer: where it tells what it cost, where more is told beside that, and where it is held back.

A caller who has seen the end may rely on the ledger having it. So of a stream the last events are kept until the ledger
does, from the first one that tells of the cost; those before pass as they come.
"""

import re
from typing import Final

from server.cost import NO_COST, Cost, read_cost

_KEY: Final = b'"energy":'
_BLOCK: Final = b'"energy":{'
_COMMENT: Final = b": energy {"
_EVENT_END: Final = b"\n\n"
# Either line ending is legal in an event stream; which one a server uses is its own affair.
_EVENT_ENDS: Final = (_EVENT_END, b"\r\n\r\n")
# At the start of a line, where no text of a model can be: in JSON its line feeds are escaped.
# OpenAI's form, Anthropic's, and that of the Responses API.
_ERROR: Final = re.compile(rb"^(data: ?\{\"error\"|event: ?(error|response\.failed)\r?$)", re.MULTILINE)
_ENDS: Final = re.compile(rb'"energy":\{"energy_joules"|^: energy \{|^data: ?\[DONE\]', re.MULTILINE)
# An energy block is under 700 bytes; with it come `data: [DONE]` or the end of a Responses event stream.
_TAIL_BYTES: Final = 4096
# The last event of a Responses stream repeats the whole answer.
_MOST_HELD_BYTES: Final = 8 * 1024 * 1024


def cost_of_body(body: bytes) -> Cost:
    """The cost of a whole JSON body, whose energy block is its last key."""
    at = body.rfind(_BLOCK)
    return NO_COST if at < 0 else read_cost(body[at + len(_KEY) :].rstrip()[:-1])


def extended_body(body: bytes, told: bytes) -> bytes:
    """The body with more fields (`"name":value,…`, or nothing) at the end of its energy block, its last key."""
    whole = body.rstrip()
    if not told or _BLOCK not in body or not whole.endswith(b"}}"):
        return body
    return b"".join((whole[:-2], b",", told, b"}}", body[len(whole) :]))


class StreamEnd:
    """Passes a stream's events on once they are whole, as no reader can use them before, and keeps back its end."""

    __slots__ = ("_held", "_is_ending", "_is_open", "_rest", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._rest = b""  # of an event that is not whole yet
        self._held = b""
        self._is_ending = False
        self._is_open = False

    def feed(self, piece: bytes) -> bytes:
        """What of the stream may leave now that this piece has come."""
        self._tail = piece if len(piece) >= _TAIL_BYTES else (self._tail + piece)[-_TAIL_BYTES:]
        if self._is_open:
            return piece
        if self._is_ending:
            self._held += piece
            return self._let_go() if len(self._held) > _MOST_HELD_BYTES else b""
        whole = self._whole_events(piece)
        if b"energy" not in whole and b"[DONE]" not in whole:
            return whole if len(self._rest) <= _MOST_HELD_BYTES else self._let_go(whole)
        return self._hold_end(whole)

    def finish(self, told: bytes) -> bytes:
        """The end of the stream, with more fields (`"name":value,…`, or nothing) in its energy block."""
        held, block = self._held + self._rest, self._block()
        self._held = self._rest = b""
        if not told or block is None or not block.endswith(b"}"):
            return held
        return held.replace(block, b"".join((block[:-1], b",", told, b"}")))

    def tells_of_error(self) -> bool:
        """Whether the stream ended with an error: an event of its own, so that its status was a 200 all the same."""
        return _ERROR.search(self._tail) is not None

    def cost(self) -> Cost:
        """The cost the stream told of."""
        block = self._block()
        return NO_COST if block is None else read_cost(block)

    def _block(self) -> bytes | None:
        at = self._tail.rfind(_COMMENT)
        return None if at < 0 else self._tail[at + len(_COMMENT) - 1 :].partition(b"\n")[0].rstrip(b"\r")

    def _whole_events(self, piece: bytes) -> bytes:
        if not self._rest and piece.endswith(_EVENT_END):
            return piece
        data = self._rest + piece
        end = _last_event_end(data, len(data))
        self._rest = data[end:]
        return data[:end]

    def _hold_end(self, whole: bytes) -> bytes:
        """Hold the events from the first one that tells of the end."""
        found = _ENDS.search(whole)
        if found is None:
            return whole
        at = _last_event_end(whole, found.start())
        self._is_ending, self._held, self._rest = True, whole[at:] + self._rest, b""
        return whole[:at]

    def _let_go(self, whole: bytes = b"") -> bytes:
        """Whoever sends so much in one event, or after what should be the end, has told something else by it."""
        data = b"".join((whole, self._held, self._rest))
        self._held = self._rest = b""
        self._is_open = True
        return data


def _last_event_end(data: bytes, until: int) -> int:
    return max((at + len(mark) for mark in _EVENT_ENDS if (at := data.rfind(mark, 0, until)) >= 0), default=0)
