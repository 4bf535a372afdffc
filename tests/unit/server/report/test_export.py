import csv
import io
import json

from server.report.export import write_csv, write_json_lines
from tests.ledger_rows import aborted_row, ledger_row

ROWS = [ledger_row(1), aborted_row(2)]


def test_csv_leaves_empty_what_is_unknown() -> None:
    out = io.StringIO()
    assert write_csv(iter(ROWS), out) == 2
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    assert (first["row_id"], first["energy_microjoules"]) == ("row-1", "3000007")
    assert json.loads(first["components_microjoules"]) == {"gpu": 2_500_000, "cpu": 500_007}
    assert (second["energy_microjoules"], second["energy_reason"]) == ("", "the caller left")


def test_json_lines_are_an_object_each() -> None:
    out = io.StringIO()
    assert write_json_lines(iter(ROWS), out) == 2
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["components_microjoules"] == {"gpu": 2_500_000, "cpu": 500_007}
    assert second["energy_microjoules"] is None
