"""Cuts a stream of bytes into whole server-sent events, for workers that do not annotate their own."""

from metering.splice import StreamAnnotator


class EventStream:
    """Adds an energy block to a stream that arrives in pieces of any size."""

    def __init__(self, block: bytes) -> None:
        self._annotator = StreamAnnotator(lambda: block)
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The events that are whole by now, annotated."""
        whole, separator, self._rest = (self._rest + chunk).rpartition(b"\n\n")
        return self._annotator.feed(whole + separator) if separator else b""

    def flush(self) -> bytes:
        """What was left without an end."""
        rest, self._rest = self._rest, b""
        return rest
