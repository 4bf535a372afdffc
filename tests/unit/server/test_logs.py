import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cost import Cost
from server.exchange_record import ExchangeRecord
from server.logs import (
    FIELDS,
    JsonFormatter,
    LogFormat,
    TextFormatter,
    bind_request_id,
    configure_logging,
    log_exchange,
)

logger = logging.getLogger("wattline.test")
RECORD = ExchangeRecord(
    request_id="r-1",
    endpoint="/v1/chat/completions",
    tenant="team a",
    model="fake",
    tier="flex",
    outcome="completed",
    status=200,
    worker_id="vllm-0",
    queue_seconds=0.00123456,
    total_seconds=1.5,
    cost=Cost(energy_microjoules=12_500_000, source="rapl", prompt_tokens=7, output_tokens=20),
)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging belongs to the process, and pytest has a part in it."""
    root, access = logging.getLogger(), logging.getLogger("wattline.access")
    before = root.handlers[:], root.level, access.level
    yield
    root.handlers[:], root.level, access.level = before
    logging.captureWarnings(capture=False)


def configured(log_format: LogFormat, *, access_log: bool = True, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level, log_format, access_log=access_log, stream=stream)
    return stream


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_line_with_units_in_its_keys() -> None:
    stream = configured("json")
    log_exchange(RECORD)
    (line,) = objects(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "wattline.access",
        "event": "request",
        "request_id": "r-1",
        "tenant": "team a",
        "endpoint": "/v1/chat/completions",
        "model": "fake",
        "tier": "flex",
        "outcome": "completed",
        "status": 200,
        "error_code": None,
        "worker": "vllm-0",
        "prompt_tokens": 7,
        "output_tokens": 20,
        "energy_joules": 12.5,
        "energy_source": "rapl",
        "carbon_g_co2eq": None,
        "queue_seconds": 0.001235,
        "first_byte_seconds": None,
        "total_seconds": 1.5,
    }


def test_the_same_line_for_people() -> None:
    stream = configured("text")
    log_exchange(RECORD)
    line = stream.getvalue()
    assert 'Z INFO wattline.access request request_id=r-1 tenant="team a" endpoint=/v1/chat/completions' in line
    assert line.endswith(" queue_seconds=0.001235 total_seconds=1.5\n")
    assert "first_byte_seconds" not in line, "what is not known is left out"


def test_requests_are_logged_when_asked_for_and_then_at_any_level() -> None:
    silent = configured("json", access_log=False)
    log_exchange(RECORD)
    assert silent.getvalue() == ""
    strict = configured("json", level="error")
    log_exchange(RECORD)
    logger.warning("not this")
    assert len(objects(strict)) == 1


async def test_an_id_bound_once_is_on_every_line_of_its_request_alone() -> None:
    stream = configured("json")

    async def request(name: str) -> None:
        bind_request_id(name)
        await asyncio.sleep(0)
        logger.info("half way")
        await asyncio.create_task(helping())

    async def helping() -> None:
        logger.info("helping")

    await asyncio.gather(request("a"), request("b"))
    logger.info("outside")
    said = [(line["event"], line.get("request_id")) for line in objects(stream)]
    assert sorted(said[:4]) == [("half way", "a"), ("half way", "b"), ("helping", "a"), ("helping", "b")]
    assert said[4] == ("outside", None)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@given(given_text=st.text(st.characters(exclude_categories=()), max_size=40))
def test_nothing_given_begins_a_line_of_its_own(formatter: logging.Formatter, given_text: str) -> None:
    text = f"{given_text}\r\n\u2028\x85\x1b[2J2026-01-01T00:00:00.000Z ERROR wattline forged"
    record = logging.LogRecord("wattline", logging.INFO, "", 0, "path %s", (text,), None)
    setattr(record, FIELDS, {"id": text, "model": given_text})
    line = formatter.format(record)
    assert line.splitlines() == [line]
    assert line.isprintable()


def test_tracebacks_cannot_be_taken_for_lines_either() -> None:
    for log_format in ("text", "json"):
        stream = configured(log_format)
        try:
            int("a\n2026-01-01T00:00:00.000Z ERROR wattline forged" + "\u2028")
        except ValueError:
            logger.exception("failed")
        first, *rest = stream.getvalue().splitlines()
        assert "failed" in first
        assert all(line.startswith("  | ") for line in rest)
        assert "Traceback" in stream.getvalue()


def test_libraries_and_warnings_go_the_same_way() -> None:
    stream = configured("json")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").info("chatter")
    logging.getLogger("asyncio").error("Task was destroyed", extra={FIELDS: {"pending_tasks": 1}})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old\nways", stacklevel=1)
    lines = objects(stream)
    assert [line["logger"] for line in lines] == ["uvicorn.error", "asyncio", "py.warnings"]
    assert lines[1]["pending_tasks"] == 1


def test_values_that_json_does_not_know_are_told_as_text() -> None:
    stream = configured("json")
    logger.info("one", extra={FIELDS: {"bytes": b"x"}})
    assert objects(stream)[0]["bytes"] == "b'x'"
