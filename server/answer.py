"""Reads, from the end of an answer, what it cost. Never more of it than that."""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

_BODY_KEY: Final = b'"energy":{'
_COMMENT: Final = b": energy {"
# At the start of a line, where no text of a model can be: in JSON its line feeds are escaped.
_ERROR: Final = re.compile(rb"^data: ?\{\"error\"", re.MULTILINE)
# An energy block is under 700 bytes; with it come `data: [DONE]` or the end of a Responses event stream.
_TAIL_BYTES: Final = 4096
# Farther than anything that can be counted, and what a float still holds.
_MOST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Cost:
    """What the energy block of an answer says; None where it says nothing."""

    energy_joules: float | None = None
    source: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


def cost_of_body(body: bytes) -> Cost:
    """The cost of a whole JSON body, whose energy block is its last key."""
    at = body.rfind(_BODY_KEY)
    return Cost() if at < 0 else _read(body[at + len(_BODY_KEY) - 1 :].rstrip()[:-1])


class StreamTail:
    """Keeps the end of a stream, for its energy comment."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        self._tail = chunk if len(chunk) >= _TAIL_BYTES else (self._tail + chunk)[-_TAIL_BYTES:]

    def tells_of_error(self) -> bool:
        """Whether the stream ended with an error: an event of its own, so that its status was a 200 all the same."""
        return _ERROR.search(self._tail) is not None

    def cost(self) -> Cost:
        """The cost the stream told of."""
        at = self._tail.rfind(_COMMENT)
        return Cost() if at < 0 else _read(self._tail[at + len(_COMMENT) - 1 :].partition(b"\n")[0])


def _read(text: bytes) -> Cost:
    try:
        block: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return Cost()
    source = block.get("source")
    return Cost(
        energy_joules=_amount(block.get("energy_joules")),
        source=source if isinstance(source, str) else None,
        prompt_tokens=_count(block.get("prompt_tokens")),
        output_tokens=_count(block.get("output_tokens")),
    )


def _amount(value: object) -> float | None:
    """A worker's word, as far as it is an amount: one NaN would spoil a total for good."""
    return float(value) if isinstance(value, int | float) and 0 <= value < _MOST else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _MOST else None
