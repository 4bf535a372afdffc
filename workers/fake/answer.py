"""The two ways a generation's tokens reach the client: one body at the end, or one event per token."""

import time

from workers.fake import responses
from workers.fake.accounts import EnergyCharge
from workers.fake.generation_request import GenerationRequest
from workers.fake.protocol import HttpConnection


class WholeAnswer:
    """Keeps silent until the end, then sends one JSON body."""

    writable = True

    def __init__(self, connection: HttpConnection, request: GenerationRequest, model: str) -> None:
        self._connection = connection
        self._request = request
        self._model = model

    def tokens(self, first: int, count: int) -> None:
        """The text is known from its length, so nothing is kept."""

    def finished(self, charge: EnergyCharge) -> None:
        body = responses.completion_body(self._request, self._model, int(time.time()), charge)
        headers = f"X-Energy-Joules: {responses.energy_joules(charge)}\r\nX-Energy-Source: estimate\r\n"
        self._connection.respond(200, body, headers)

    def crashed(self) -> None:
        self._connection.break_off()


class StreamedAnswer:
    """Sends one event per token of each sequence; the head leaves with the first of them."""

    def __init__(self, connection: HttpConnection, request: GenerationRequest, model: str) -> None:
        self._connection = connection
        self._request = request
        self._events = responses.StreamEvents(request, model, int(time.time()))
        self._later_tokens = self._token_of_each_sequence(first=False)

    @property
    def writable(self) -> bool:
        return self._connection.writable

    def tokens(self, first: int, count: int) -> None:
        if first == 0:
            self._connection.start_stream()
            self._connection.write(self._token_of_each_sequence(first=True))
            count -= 1
        if count:
            self._connection.write(self._later_tokens * count)

    def finished(self, charge: EnergyCharge) -> None:
        events = [self._events.finish(index) for index in range(self._request.sequences)]
        if self._request.include_usage:
            events.append(self._events.usage(charge))
        events += [self._events.energy(charge), responses.STREAM_END]
        self._connection.write(b"".join(map(_framed, events)))
        self._connection.end_stream()

    def crashed(self) -> None:
        self._connection.break_off()

    def _token_of_each_sequence(self, *, first: bool) -> bytes:
        indexes = range(self._request.sequences)
        return b"".join(_framed(self._events.token(index, first=first)) for index in indexes)


def _framed(event: bytes) -> bytes:
    """One event as one HTTP chunk, as an engine sends it."""
    return b"%x\r\n%s\r\n" % (len(event), event)
