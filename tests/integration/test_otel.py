"""Spans as a collector gets them: the real exporter, over HTTP, to a stub that decodes what it is sent."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from server.cost import Cost
from server.exchange_record import ExchangeRecord
from server.otel import open_otel
from server.tracing import Tracing

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
CALLERS = [(b"host", b"x"), (b"traceparent", TRACEPARENT), (b"tracestate", b"vendor=1")]


class Collector:
    """An OTLP/HTTP collector on loopback."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                assert self.path == "/v1/traces"
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for of in request.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]

    def resource(self) -> dict[str, Any]:
        return attributes(self.requests[0].resource_spans[0].resource)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    running = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
    yield running
    running.close()


@pytest.fixture
def record() -> ExchangeRecord:
    return ExchangeRecord("r-1", "/v1/chat/completions", "team-a", "fake", "flex")


def attributes(of: Any) -> dict[str, Any]:
    return {pair.key: value(pair.value) for pair in of.attributes}


def value(of: AnyValue) -> Any:
    kind = of.WhichOneof("value")
    assert kind is not None
    return getattr(of, kind)


def finish(record: ExchangeRecord, **known: Any) -> ExchangeRecord:
    for name, found in known.items():
        setattr(record, name, found)
    return record


def completed(record: ExchangeRecord) -> ExchangeRecord:
    return finish(
        record,
        outcome="completed",
        status=200,
        worker_id="vllm-0",
        queue_seconds=0.25,
        first_byte_seconds=0.5,
        cost=Cost(energy_microjoules=12_500_000, source="rapl", prompt_tokens=7, output_tokens=20),
    )


def test_a_request_is_one_span_with_its_energy(collector: Collector, record: ExchangeRecord) -> None:
    tracing: Tracing = open_otel()
    tracing.begin(CALLERS, record).end(completed(record))
    tracing.close()
    (span,) = collector.spans()
    assert span.name == "chat fake"
    assert span.kind == Span.SPAN_KIND_SERVER
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert span.trace_state == "vendor=1"
    assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "wattline",
        "gen_ai.request.model": "fake",
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 20,
        "http.response.status_code": 200,
        "http.route": "/v1/chat/completions",
        "wattline.energy_joules": 12.5,
        "wattline.energy_source": "rapl",
        "wattline.outcome": "completed",
        "wattline.queue_seconds": 0.25,
        "wattline.request_id": "r-1",
        "wattline.tenant": "team-a",
        "wattline.tier": "flex",
        "wattline.worker": "vllm-0",
    }
    known = {getattr(gen_ai_attributes, name) for name in dir(gen_ai_attributes) if name.startswith("GEN_AI_")}
    assert {name for name in attributes(span) if name.startswith("gen_ai.")} <= known, "as the conventions name them"
    assert collector.resource()["service.name"] == "wattline"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"


def test_the_engine_is_told_of_the_span_it_works_for(collector: Collector, record: ExchangeRecord) -> None:
    tracing = open_otel()
    span = tracing.begin(CALLERS, record)
    sent = span.engine_headers([("traceparent", TRACEPARENT.decode()), ("accept", "*/*")])
    span.end(completed(record))
    tracing.close()
    headers = dict(sent)
    assert len(headers) == len(sent) == 3
    assert headers["tracestate"] == "vendor=1"
    ours = collector.spans()[0].span_id.hex()
    assert headers["traceparent"] == f"00-{TRACE_ID}-{ours}-01"


def test_what_is_not_known_is_left_out_and_what_failed_is_marked(collector: Collector, record: ExchangeRecord) -> None:
    tracing = open_otel()
    tracing.begin([], record).end(finish(record, outcome="failed", status=502, model="unknown"))
    tracing.close()
    (span,) = collector.spans()
    assert (span.name, span.parent_span_id) == ("chat unknown", b"")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message == ""
    assert attributes(span)["error.type"] == "502"
    assert not {"wattline.energy_joules", "wattline.worker", "gen_ai.usage.input_tokens"} & attributes(span).keys()


@pytest.mark.parametrize("header", [b"garbage", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"\xff" * 55, b""])
def test_a_header_that_is_none_begins_a_trace(collector: Collector, record: ExchangeRecord, header: bytes) -> None:
    tracing = open_otel()
    span = tracing.begin([(b"traceparent", header)], record)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", dict(span.engine_headers([]))["traceparent"])
    span.end(completed(record))
    tracing.close()
    assert collector.spans()[0].parent_span_id == b""


def test_a_trace_that_is_not_sampled_is_handed_on_and_not_sent(collector: Collector, record: ExchangeRecord) -> None:
    tracing = open_otel()
    span = tracing.begin([(b"traceparent", TRACEPARENT[:-1] + b"0")], record)
    assert dict(span.engine_headers([]))["traceparent"].endswith("-00")
    span.end(completed(record))
    tracing.close()
    assert collector.requests == []


def test_the_standard_variables_hold(
    collector: Collector, record: ExchangeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "inference")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    tracing = open_otel()
    tracing.begin([], record).end(completed(record))
    tracing.close()
    assert collector.resource()["service.name"] == "inference"
    assert collector.resource()["deployment.environment"] == "test"
    assert collector.headers[0]["authorization"] == "secret"
