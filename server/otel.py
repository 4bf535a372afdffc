"""Spans through OpenTelemetry, as OTLP over HTTP; endpoint, headers, sampling, batching by the standard variables.

Attributes are those of the semantic conventions for generative AI where there are any, ours under `wattline.` else.
Never text: neither prompts nor completions, nor an error's message.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from server.errors import SettingError
from server.exchange_record import ExchangeRecord
from server.tracing import EngineHeaders, RequestSpan

# What the conventions call the operation of each route; the others have no name there.
_OPERATIONS: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
_CONTEXT_HEADERS: Final = frozenset({"traceparent", "tracestate"})
# A collector that is not there must not hold up the end of the server; spans are not the ledger.
_CLOSE_SECONDS: Final = 2.0


def open_otel() -> "OtelTracing":
    """Tracing with an exporter and a provider of our own: nothing is registered for the whole process.

    Raises:
        SettingError: a variable is not what OpenTelemetry expects.
    """
    try:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "wattline"}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except (ValueError, OSError) as error:
        raise SettingError(f"otel: the OTEL_… variables are refused: {error}") from error
    return OtelTracing(provider)


class OtelTracing:
    """Begins a span for each request and sends those that are sampled, in the background."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("wattline")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Iterable[tuple[bytes, bytes]], record: ExchangeRecord) -> RequestSpan:
        carrier = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in headers
            if name in {b"traceparent", b"tracestate"}
        }
        span = self._tracer.start_span(
            _name(record),
            self._propagator.extract(carrier) if carrier else None,
            SpanKind.SERVER,
            _first_attributes(record),
        )
        return OtelSpan(span, self._propagator)

    def close(self) -> None:
        """Send what is still unsent, if that is soon done."""
        closing = threading.Thread(target=self._provider.shutdown, name="close tracing", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


class OtelSpan:
    """One request's span."""

    def __init__(self, span: Span, propagator: TraceContextTextMapPropagator) -> None:
        self._span = span
        self._propagator = propagator

    def engine_headers(self, headers: EngineHeaders) -> EngineHeaders:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(self._span))
        return [*((name, value) for name, value in headers if name not in _CONTEXT_HEADERS), *carrier.items()]

    def end(self, record: ExchangeRecord) -> None:
        span = self._span
        if span.is_recording():
            span.update_name(_name(record))
            span.set_attributes(_last_attributes(record))
            if record.status >= 500 or record.outcome == "failed":
                span.set_status(StatusCode.ERROR)
                span.set_attribute("error.type", str(record.status))
        span.end()


def _operation(record: ExchangeRecord) -> str:
    return _OPERATIONS.get(record.endpoint, record.endpoint.rpartition("/")[2])


def _name(record: ExchangeRecord) -> str:
    return f"{_operation(record)} {record.model}"


def _first_attributes(record: ExchangeRecord) -> dict[str, AttributeValue]:
    return {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.provider.name": "wattline",
        "gen_ai.request.model": record.model,
        "http.route": record.endpoint,
        "wattline.request_id": record.request_id,
        "wattline.tenant": record.tenant,
        "wattline.tier": record.tier,
    }


def _last_attributes(record: ExchangeRecord) -> dict[str, AttributeValue]:
    """What is known at the end only; what is not known even then is left out."""
    attributes: dict[str, AttributeValue | None] = {
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "gen_ai.response.time_to_first_chunk": record.first_byte_seconds,
        "http.response.status_code": record.status,
        "wattline.tier": record.tier,
        "wattline.outcome": record.outcome,
        "wattline.worker": record.worker_id,
        "wattline.queue_seconds": record.queue_seconds,
        "wattline.energy_joules": record.energy_joules,
        "wattline.energy_source": record.energy_source,
        "wattline.carbon_g_co2eq": record.carbon_g_co2eq,
        "wattline.error_code": record.error_code,
    }
    return {name: value for name, value in attributes.items() if value is not None}
