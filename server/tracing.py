"""One span a request, for whoever collects spans; nothing at all where nobody does.

Only the shape is here: OpenTelemetry is an optional dependency, and is imported when it is asked for.
"""

import importlib.util
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from server.errors import SettingError
from server.exchange_record import ExchangeRecord

EngineHeaders = list[tuple[str, str]]
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


class RequestSpan(Protocol):
    """The span of one request, from its arrival to `end`."""

    def engine_headers(self, headers: EngineHeaders) -> EngineHeaders:
        """The headers for the engine, so that its spans become this one's children."""
        ...

    def end(self, record: ExchangeRecord) -> None: ...


class Tracing(Protocol):
    """Begins spans. `headers` are the caller's, whose `traceparent` is the parent; `record` as far as it is known."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]], record: ExchangeRecord) -> RequestSpan: ...

    def close(self) -> None: ...


class NoTracing:
    """Tracing is off: what the caller sent to be traced by goes to the engine unchanged."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]], record: ExchangeRecord) -> RequestSpan:  # noqa: ARG002
        return self

    def engine_headers(self, headers: EngineHeaders) -> EngineHeaders:
        return headers

    def end(self, record: ExchangeRecord) -> None:
        pass

    def close(self) -> None:
        pass


def open_tracing(*, enabled: bool, find: Callable[[str], object] = importlib.util.find_spec) -> Tracing:
    """Tracing as the `OTEL_…` variables say, or none.

    Raises:
        SettingError: it is wanted, and OpenTelemetry is not installed or refuses its variables.
    """
    if not enabled:
        return NoTracing()
    if not _is_installed(find):
        raise SettingError("otel = True: OpenTelemetry is not installed; install Wattline's extra `otel`")
    from server.otel import open_otel  # noqa: PLC0415  # an optional dependency

    return open_otel()


def _is_installed(find: Callable[[str], object]) -> bool:
    try:
        return all(find(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:  # of a parent
        return False
