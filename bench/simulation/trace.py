"""Trace files in the format of the Azure LLM inference traces: when requests came, and how long they were."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.simulation.errors import SimulationSettingError

_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOST_TOKENS: Final = 10_000_000  # beyond any context window: a misplaced column, say


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One line. `at_seconds` counts from the first request of the trace; both token counts are at least 1."""

    at_seconds: float
    prompt_tokens: int
    output_tokens: int


def read_trace(path: Path) -> tuple[TraceRequest, ...]:
    """The requests of a trace in order of time.

    The columns may stand in any order among others. A count of 0 is read as 1: an engine computes at least one token
    of a prompt and gives at least one of an answer.

    Raises:
        SimulationSettingError: the file cannot be read or a line is not what it should be; the message names file,
            line and what was expected.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(path, file))
    except OSError as error:
        raise SimulationSettingError(f"trace {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SimulationSettingError(f"trace {path}: expected text in UTF-8, found other bytes") from error
    except csv.Error as error:
        raise SimulationSettingError(f"trace {path}: expected comma-separated values: {error}") from error
    if not rows:
        raise SimulationSettingError(f"trace {path}: expected at least one request after the heading, found none")
    rows.sort(key=lambda row: row[0])
    first = rows[0][0]
    return tuple(TraceRequest((at - first).total_seconds(), prompt, output) for at, prompt, output in rows)


def _rows(path: Path, file: Iterable[str]) -> Iterator[tuple[datetime, int, int]]:
    reader = csv.reader(file)
    places = _places(path, next(reader, []))
    for row in reader:
        if not row:
            continue
        where = f"trace {path}, line {reader.line_num}"
        if len(row) <= max(places):
            raise SimulationSettingError(
                f"{where}: expected the columns {', '.join(_COLUMNS)}, found {len(row)} of them"
            )
        at, prompt, output = (row[place].strip() for place in places)
        yield _instant(where, at), _tokens(where, _COLUMNS[1], prompt), _tokens(where, _COLUMNS[2], output)


def _places(path: Path, heading: list[str]) -> tuple[int, ...]:
    names = [name.strip() for name in heading]
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        found = ",".join(names)[:100] or "an empty line"
        raise SimulationSettingError(
            f"trace {path}, line 1: expected the heading {','.join(_COLUMNS)}, found {found!r}"
        )
    return tuple(names.index(name) for name in _COLUMNS)


def _instant(where: str, text: str) -> datetime:
    """Digits beyond the microsecond are dropped; an instant without a time zone is taken as UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"{where}: TIMESTAMP is {text[:60]!r}, expected an instant like 2023-11-16 18:15:46.6805900"
        raise SimulationSettingError(message) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _tokens(where: str, column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= _MOST_TOKENS):
        message = f"{where}: {column} is {text[:60]!r}, expected a whole number from 0 to {_MOST_TOKENS}"
        raise SimulationSettingError(message)
    return max(1, int(text))
