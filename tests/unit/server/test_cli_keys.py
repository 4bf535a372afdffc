import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.access.key import PREFIX
from server.cli_keys import keys_app
from server.errors import SettingError, StartError

Said = pytest.CaptureFixture[str]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger that is named by the variable and does not exist yet."""
    path = tmp_path / "state" / "ledger.db"
    monkeypatch.setenv("WATTLINE_LEDGER_URL", f"sqlite:///{path}")
    return path


def keys(*arguments: str) -> None:
    keys_app(args=list(arguments), prog_name="wattline keys", standalone_mode=False)


def made(said: Said, *arguments: str) -> dict[str, Any]:
    keys(*arguments, "--json")
    return dict[str, Any](json.loads(said.readouterr().out))


def test_a_key_is_printed_once_and_only_its_hash_is_kept(ledger: Path, capsys: Said) -> None:
    keys("create", "--tenant", "team-a", "--name", "laptop")
    printed, told = capsys.readouterr()
    token = printed.removesuffix("\n")
    assert token.startswith(PREFIX)
    assert "\n" not in token
    secret = token.rpartition(PREFIX)[2].partition("-")[2]
    assert secret not in told
    assert all(secret.encode() not in file.read_bytes() for file in ledger.parent.iterdir())
    keys("list")
    assert secret not in capsys.readouterr().out


def test_the_list_is_for_the_eye_or_for_a_program(ledger: Path, capsys: Said) -> None:
    key = made(capsys, "create", "--tenant", "team-a", "--name", "laptop", "--expires-days", "2")
    keys("list", "--ledger", f"sqlite:///{ledger}")
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["KEY", "ID", "TENANT", "NAME", "STATE", "CREATED", "EXPIRES", "REVOKED"]
    assert line.split()[:4] == [key["key_id"], "team-a", "laptop", "active"]
    keys("list", "--json")
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed == {name: value for name, value in key.items() if name != "key"}
    assert listed["expires_unix_seconds"] - listed["created_unix_seconds"] == 2 * 86_400


def test_keys_are_rotated_and_revoked(ledger: Path, capsys: Said) -> None:
    old = made(capsys, "create", "--tenant", "team-a", "--name", "laptop")
    new = made(capsys, "rotate", old["key_id"], "--grace-hours", "0")
    assert (new["tenant"], new["name"]) == ("team-a", "laptop")
    assert new["key"] != old["key"]
    keys("revoke", new["key_id"])
    printed, told = capsys.readouterr()
    assert (printed, told) == ("", f"revoked {new['key_id']} of tenant team-a\n")
    keys("list", "--json")
    assert [key["state"] for key in json.loads(capsys.readouterr().out)] == ["expired", "revoked"]


def test_what_is_wrong_is_named(ledger: Path, tmp_path: Path) -> None:
    keys("create", "--tenant", "team-a", "--name", "laptop")
    for arguments, complaint in (
        (("create", "--tenant", "a b", "--name", "n"), "tenant = 'a b': expected "),
        (("rotate", "beef"), "key_id = 'beef': there is no such key"),
        (("revoke", "beef"), "key_id = 'beef': there is no such key"),
        (("list", "--ledger", "none"), "ledger_url = 'none': keys are kept in the ledger's database"),
        (("list", "--ledger", "mysql://a/b"), "ledger_url = 'mysql://a/b': expected "),
    ):
        with pytest.raises(SettingError) as error:
            keys(*arguments)
        assert str(error.value).startswith(complaint)


def test_a_database_that_cannot_be_used_is_named(ledger: Path, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^ledger_url = .*there is no ledger"):
        keys("list")
    torn = tmp_path / "torn.db"
    torn.write_bytes(b"no database" * 100)
    with pytest.raises(StartError, match=r"^ledger_url = .*not a database"):
        keys("create", "--tenant", "a", "--name", "n", "--ledger", f"sqlite:///{torn}")
    keys("create", "--tenant", "a", "--name", "n")
    with sqlite3.connect(ledger) as database:
        database.execute("DROP TABLE api_keys")
    database.close()
    with pytest.raises(StartError, match=r"^ledger_url = .*no such table"):
        keys("list")


def test_standard_output_is_the_key_alone(ledger: Path) -> None:
    command = [sys.executable, "-m", "server", "keys", "create", "--tenant", "team-a", "--name", "from a script"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert ended.stdout.startswith(PREFIX)
    assert len(ended.stdout) == 69
    assert "team-a" in ended.stderr
