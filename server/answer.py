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
# At the start of a line, where no text of a model can be: in JSON its line feeds are escaped.
_ERROR: Final = re.compile(rb"^data: ?\{\"error\"", re.MULTILINE)
_ENDS: Final = re.compile(rb'"energy":\{"energy_joules"|\n: energy \{|\ndata: ?\[DONE\]')
# As long as the longest of them, less a byte: one may lie across two pieces.
_LOOK_BACK_BYTES: Final = len(b'"energy":{"energy_joules"') - 1
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
    return b"".join((whole[:-2], b",", told, b"}}"))


class StreamEnd:
    """Passes a stream's pieces on and keeps back its end."""

    __slots__ = ("_held", "_is_open", "_tail")

    def __init__(self) -> None:
        self._tail = _EVENT_END
        self._held = b""
        self._is_open = False

    def feed(self, piece: bytes) -> bytes:
        """What of the stream may leave now that this piece has come."""
        before = self._tail
        self._tail = piece if len(piece) >= _TAIL_BYTES else (before + piece)[-_TAIL_BYTES:]
        if self._held:
            self._held += piece
            return self._release() if len(self._held) > _MOST_HELD_BYTES else b""
        if self._is_open:
            return piece
        return self._hold_from(piece, before[-_LOOK_BACK_BYTES:])

    def finish(self, told: bytes) -> bytes:
        """The end of the stream, with more fields (`"name":value,…`, or nothing) in its energy block."""
        held, block = self._held, self._block()
        self._held = b""
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

    def _hold_from(self, piece: bytes, before: bytes) -> bytes:
        # What is looked for lies within one event, and most pieces are whole ones.
        if before.endswith(_EVENT_END) and b"energy" not in piece and b"[DONE]" not in piece:
            return piece
        found = _ENDS.search(before + piece)
        if found is None:
            return piece
        event = (before + piece).rfind(_EVENT_END, 0, found.start() + 1) + len(_EVENT_END) - len(before)
        at = max(0, event)
        self._held = piece[at:]
        return piece[:at]

    def _release(self) -> bytes:
        """Whoever sends so much after what should be the end has told something else by it."""
        held, self._held, self._is_open = self._held, b"", True
        return held
