"""The meeting point of stat logger and middleware: whose sequence it is, and what is reported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.vllm_plugin.exporter import EnergyExporter
from metering.vllm_plugin.session import MeterSession


@pytest.fixture
def session(tmp_path: Path) -> Iterator[MeterSession]:
    recording = tmp_path / "recording.csv"
    recording.write_text("seconds,component,energy_microjoules\n0,gpu,0\n3600,gpu,360000000000\n")
    one = MeterSession({"WATTLINE_METER": f"replay:{recording}", "WATTLINE_WORKER_ID": "w0"})
    yield one
    assert one._sampler is not None
    one._sampler.stop()


@pytest.mark.parametrize(
    ("engine_id", "owner"),
    [
        ("chatcmpl-job", "job"),
        ("chatcmpl-job-12", "job-12"),
        ("cmpl-job-12", "job"),
        ("cmpl-job-12-0", "job-12"),
        ("cmpl-job-12-3", "job-12"),
        ("chatcmpl-job_4", "job"),
        ("embd-job-3", "job"),
        ("embd-job-prompt-0-chunk-2", "job"),
        ("score-job-1", "job"),
        ("transcribe-job", "job"),
        ("generate-tokens-job", "job"),
        ("generative-scoring-job-12-1", "job-12"),
        ("cmpl-job-0123456789abcdef-beam-1", "job"),
        ("chatcmpl-job-12-0123456789abcdef-beam-0", "job-12"),
        ("cmpl-a-b-0", "a-b"),
        ("cmpl-a-0", "cmpl-a-0"),
        ("chatcmpl-job-13", "chatcmpl-job-13"),
        ("chatcmpl-other", "chatcmpl-other"),
        ("resp_abc_0", "resp_abc_0"),
        ("", ""),
    ],
)
def test_a_sequence_belongs_to_the_request_whose_id_vllm_made_its_own_from(
    session: MeterSession, engine_id: str, owner: str
) -> None:
    assert session.meter is not None
    for request_id in ("job", "job-12", "a-b"):
        session.meter.request_started(request_id, 0.0)
    assert session.owner_of(engine_id) == owner


def test_what_cannot_be_measured_says_why() -> None:
    session = MeterSession({"WATTLINE_METER": "wishful"})
    assert session.meter is None
    report = session.telemetry()
    assert report["source"] is None
    assert "wishful" in report["reason"]
    assert session.owner_of("cmpl-x-0") == "cmpl-x-0"
    assert list(EnergyExporter(session).collect()) == []


def test_giving_up_keeps_the_reason(session: MeterSession) -> None:
    session.fail("surprised")
    assert session.telemetry()["reason"] == "surprised"
    assert b'"energy_joules":null' in session.unknown_block()
    assert b'"reason":"surprised"' in session.unknown_block()
    assert b'"reason":"other"' in session.unknown_block("other")


def test_the_exporter_shows_the_latest_telemetry_and_touches_no_meter(session: MeterSession) -> None:
    """It runs in a thread of the metrics page, the meter on the event loop."""
    report = session.telemetry()
    session.meter = None
    samples = [sample for family in EnergyExporter(session).collect() for sample in family.samples]
    idle = next(sample for sample in samples if sample.labels.get("account") == "loading")
    assert idle.name == "wattline_energy_joules_total"
    assert idle.labels == {"worker": "w0", "model": "", "component": "gpu", "account": "loading"}
    assert idle.value == report["accounts_microjoules"]["gpu"]["loading"] / 1e6
    assert any(sample.name == "wattline_energy_in_flight_joules" for sample in samples)
