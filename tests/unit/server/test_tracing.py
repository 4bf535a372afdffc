import pytest

from server.errors import SettingError
from server.exchange_record import ExchangeRecord
from server.tracing import NoTracing, open_tracing

RECORD = ExchangeRecord("r-1", "/v1/chat/completions", "anonymous", "fake", "default")
HEADERS = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("x-request-id", "r-1")]


def test_switched_off_it_touches_nothing() -> None:
    tracing = open_tracing(enabled=False)
    assert isinstance(tracing, NoTracing)
    span = tracing.begin([], RECORD)
    assert span.engine_headers(HEADERS) is HEADERS
    span.end(RECORD)
    tracing.close()


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter.otlp.proto.http.trace_exporter"])
def test_without_the_library_it_says_what_to_install(missing: str) -> None:
    def find(name: str) -> object:
        if name.startswith(missing):
            if missing == "opentelemetry":
                raise ModuleNotFoundError(name)
            return None
        return object()

    with pytest.raises(SettingError, match="install Wattline's extra `otel`"):
        open_tracing(enabled=True, find=find)
