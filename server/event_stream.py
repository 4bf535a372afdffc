"""Cuts a stream of bytes into whole server-sent events, for workers that do not annotate their own."""

from typing import Final

from metering.splice import StreamAnnotator

# A comment at the start of a line, where no text of a model can be: in JSON its line feeds are escaped.
_TOLD: Final = b": energy {"
# Either line ending is legal in an event stream; which one a server uses is its own affair.
_EVENT_ENDS: Final = (b"\n\n", b"\r\n\r\n")


class EventStream:
    """Adds an energy block to a stream that arrives in pieces of any size.

    Lines that end in CRLF leave with a line feed alone; to every reader of events that is the same.
    """

    def __init__(self, block: bytes) -> None:
        self._annotator = StreamAnnotator(lambda: block)
        self._rest = b""
        self._told = False

    def feed(self, chunk: bytes) -> bytes:
        """The events that are whole by now, annotated."""
        data = self._rest + chunk
        self._told = self._told or data.startswith(_TOLD) or b"\n" + _TOLD in data
        if self._told:  # it measures after all: its word stands
            self._rest = b""
            return data
        end = max((at + len(mark) for mark in _EVENT_ENDS if (at := data.rfind(mark)) >= 0), default=0)
        self._rest = data[end:]
        return self._annotator.feed(_unix_lines(data[:end])) if end else b""

    def flush(self) -> bytes:
        """What was left without an end; engines are known to leave out the empty line after the last event."""
        rest, self._rest = _unix_lines(self._rest), b""
        event = rest.rstrip(b"\n")
        return self._annotator.feed(event) + rest[len(event) :] if event else rest


def _unix_lines(events: bytes) -> bytes:
    # JSON holds no bare carriage return, so whatever CRLF there is ends a line.
    return events.replace(b"\r\n", b"\n") if b"\r" in events else events
