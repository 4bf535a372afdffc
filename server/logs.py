"""Logs for people or for machines: one event a line, with the request's id where there is one.

Nothing a caller gives can begin a line of its own: what does not print is escaped. Prompts and completions are not
given to loggers in the first place.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final, Literal

from server.exchange_record import ExchangeRecord
from server.printable import printable

LogFormat = Literal["text", "json"]

# The attribute of a log record that holds its key/values; `extra={FIELDS: {…}}` puts them there.
FIELDS: Final = "wattline_fields"
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_access = logging.getLogger("wattline.access")
# json.dumps would make an encoder for every line.
_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


def configure_logging(level: str, log_format: LogFormat, *, access_log: bool, stream: IO[str] | None = None) -> None:
    """Give every logger of this process one handler and one format: ours, uvicorn's, asyncio's, Python's warnings."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of its own plugins at every start
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that is none
    # Asked for by a setting of its own, it is printed at any level.
    _access.setLevel(logging.INFO if access_log else logging.CRITICAL)
    logging.captureWarnings(capture=True)


def bind_request_id(request_id: str) -> None:
    """Put the id on every line that this task, and those it starts from here on, log."""
    _request_id.set(request_id)


def log_exchange(record: ExchangeRecord) -> None:
    """The access line of one request, where `access_log` asks for them."""
    if not _access.isEnabledFor(logging.INFO):
        return
    fields = {
        "request_id": record.request_id,
        "tenant": record.tenant,
        "endpoint": record.endpoint,
        "model": record.model,
        "tier": record.tier,
        "outcome": record.outcome,
        "status": record.status,
        "error_code": record.error_code,
        "worker": record.worker_id,
        "prompt_tokens": record.prompt_tokens,
        "output_tokens": record.output_tokens,
        "energy_joules": record.energy_joules,
        "energy_source": record.energy_source,
        "carbon_g_co2eq": record.carbon_g_co2eq,
        "queue_seconds": _rounded(record.queue_seconds),
        "first_byte_seconds": _rounded(record.first_byte_seconds),
        "total_seconds": _rounded(record.total_seconds),
    }
    # As Logger.info, but without looking for the line of code that called: that is half of its cost.
    _access.handle(_access.makeRecord(_access.name, logging.INFO, "", 0, "request", (), None, None, {FIELDS: fields}))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class TextFormatter(logging.Formatter):
    """Time, level, logger and event, then `key=value`, strings that hold more than a word in quotes."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name} {printable(record.getMessage())}"
        for key, value in _fields(record).items():
            if value is not None:
                line += f" {key}={_word(value)}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n  | {printable(part)}" for part in lines)
        return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, FIELDS, {})
    request_id = _request_id.get()
    return fields if request_id is None else {"request_id": request_id, **fields}


def _word(value: object) -> str:
    if isinstance(value, str) and (not value.isprintable() or not value or any(mark in value for mark in ' "=')):
        return json.dumps(value)
    return str(value)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
