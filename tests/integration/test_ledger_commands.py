"""`wattline report` and `wattline ledger` over a real ledger."""

import asyncio
import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import typer

from server.cli_report import add_report_commands
from server.errors import SettingError, StartError
from server.ledger.ledger import open_ledger
from server.ledger.settings import LedgerSettings
from tests.ledger_rows import NOON, aborted_row, ledger_row

ROWS = [
    ledger_row(1),
    ledger_row(2, tenant="sales", model="llama", ended_unix_seconds=NOON + 86_400),
    aborted_row(3),
]


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    async def fill() -> None:
        ledger = open_ledger(LedgerSettings(ledger_url=url))
        await asyncio.gather(*map(ledger.record, ROWS))
        await ledger.close()

    asyncio.run(fill())
    return url


def run(*arguments: str) -> Any:
    app = typer.Typer()
    add_report_commands(app)
    return app(args=list(arguments), standalone_mode=False)


def test_a_table_of_tenants(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("report", "--by", "tenant", "--ledger", url)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:6]] == ["tenant", "--------", "research", "sales", "--------", "total"]
    assert lines[5].split()[1:5] == ["3", "36", "200", "6.000"]


def test_a_file_by_format(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for format_ in ("csv", "json", "html"):
        run(
            "report", "--format", format_, "--output", str(tmp_path / format_), "--ledger", url, "--since", "2026-01-02"
        )
    assert capsys.readouterr().out == ""
    (line,) = csv.DictReader((tmp_path / "csv").read_text().splitlines())
    assert (line["tenant"], line["energy_microjoules"]) == ("sales", "3000007")
    assert json.loads((tmp_path / "json").read_text())["total"]["energy_joules"] == 3.000007
    assert "<svg" in (tmp_path / "html").read_text()


def test_the_ledger_is_found_by_variable_and_by_file(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wattline.toml").write_text(f'ledger_url = "{url}"\n')
    run("report", "--format", "json", "--config", str(tmp_path / "wattline.toml"), "--where", "tenant=sales")
    monkeypatch.setenv("WATTLINE_LEDGER_URL", url)
    run("report", "--format", "json", "--where", "tenant=sales")
    first, second = capsys.readouterr().out.split("}\n{")
    assert '"total": 1,' in first
    assert '"total": 1,' in second


def test_export_and_its_two_formats(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("ledger", "export", "--ledger", url, "--until", "2026-01-02")
    assert len(capsys.readouterr().out.splitlines()) == 3
    run("ledger", "export", "--format", "jsonl", "--ledger", url, "--output", str(tmp_path / "rows"))
    assert [json.loads(line)["row_id"] for line in (tmp_path / "rows").read_text().splitlines()] == [
        "row-1",
        "row-3",
        "row-2",
    ]


def test_check_and_prune(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("ledger", "prune", "--before", "2026-01-02", "--ledger", url)
    assert capsys.readouterr().out == "2 rows deleted\n"
    run("ledger", "check", "--json", "--ledger", url)
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["problems"], found["schema"]) == (1, [], "0001")


def test_damage_is_told_by_the_exit_code(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE requests SET decode_microjoules = 0 WHERE row_id = 'row-1'")
    connection.close()
    assert run("ledger", "check", "--ledger", url) == 1
    assert "1 row(s) have parts that do not add up" in capsys.readouterr().out


def test_speed_writes_and_leaves_nothing(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    run("ledger", "speed", "--seconds", "0.1", "--json", "--ledger", empty)
    results = json.loads(capsys.readouterr().out)
    assert [result["writers"] for result in results] == [1, 16, 256]
    assert all(0 < result["p50_seconds"] <= result["max_seconds"] for result in results)
    run("ledger", "check", "--json", "--ledger", empty)
    assert json.loads(capsys.readouterr().out)["rows"] == 0
    with pytest.raises(SettingError, match="expected an empty database"):
        run("ledger", "speed", "--ledger", url)
    run("ledger", "check", "--json", "--ledger", url)
    assert json.loads(capsys.readouterr().out)["rows"] == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("report", "--by", "colour"), "by = 'colour': expected some of tenant"),
        (("report", "--format", "pdf"), "format = 'pdf': expected one of table"),
        (("report", "--period", "today", "--since", "0"), "period = 'today': expected alone"),
        (("report", "--where", "colour=red"), "where = 'colour=red': expected NAME=VALUE"),
        (("ledger", "export", "--format", "xml"), "format = 'xml'"),
        (("ledger", "prune"), "expected either --before or --days"),
        (("ledger", "prune", "--days", "-1"), "days = -1.0: expected a number above 0"),
        (("ledger", "speed"), "ledger: expected the URL"),
        (("report", "--ledger", "none"), "there is no ledger to read"),
    ],
)
def test_what_the_operator_got_wrong_is_named(
    url: str, arguments: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATTLINE_LEDGER_URL", url)
    with pytest.raises(SettingError, match=complaint):
        run(*arguments)


def test_a_report_makes_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^ledger_url = .*there is no ledger"):
        run("report", "--ledger", f"sqlite:///{tmp_path / 'no.db'}")
    assert list(tmp_path.iterdir()) == []
