"""Every row as CSV or JSON lines, one at a time, however many there are."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Final, TextIO

from server.ledger.row import LedgerRow

Writer = Callable[[Iterable[LedgerRow], TextIO], int]


def write_csv(rows: Iterable[LedgerRow], out: TextIO) -> int:
    """A heading, then a line a row; what is unknown is empty. Returns how many rows there were."""
    writer = csv.writer(out)
    writer.writerow(field.name for field in fields(LedgerRow))
    count = 0
    for row in rows:
        values = asdict(row)
        values["components_microjoules"] = json.dumps(values["components_microjoules"])
        writer.writerow(values.values())
        count += 1
    return count


def write_json_lines(rows: Iterable[LedgerRow], out: TextIO) -> int:
    """An object a line; what is unknown is null. Returns how many rows there were."""
    count = 0
    for row in rows:
        out.write(json.dumps(asdict(row)) + "\n")
        count += 1
    return count


EXPORT_FORMATS: Final[Mapping[str, Writer]] = {"csv": write_csv, "jsonl": write_json_lines}
