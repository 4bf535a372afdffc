import os
import stat
from pathlib import Path

import pytest

from server.errors import SettingError
from server.ledger.address import create_private_file, default_ledger_url, ledger_address, shown_address
from server.ledger.database import open_database
from server.ledger.errors import LedgerOpenError


def test_the_default_is_in_the_users_state_folder() -> None:
    assert default_ledger_url({"XDG_STATE_HOME": "/var/lib/x"}) == "sqlite:////var/lib/x/wattline/ledger.db"
    home = Path.home() / ".local/state/wattline/ledger.db"
    assert default_ledger_url({}) == default_ledger_url({"XDG_STATE_HOME": "relative"}) == f"sqlite:///{home}"


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////tmp/x.db", "sqlite"),
        ("sqlite:///x.db", "sqlite"),
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg://u:p@h:5433/d?sslmode=require", "postgresql+psycopg"),
    ],
)
def test_a_url_names_a_database(url: str, driver: str) -> None:
    address = ledger_address(url)
    assert address is not None
    assert address.drivername == driver


def test_none_is_no_ledger() -> None:
    assert ledger_address("none") is None


@pytest.mark.parametrize("url", ["", "ledger.db", "/tmp/x.db", "sqlite://", "sqlite:///:memory:", "mysql://u@h/d"])
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match=r"ledger_url.*expected"):
        ledger_address(url)


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "postgresql+asyncpg://u:secret@h/d", "://u:secret@h:x/d"])
def test_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        ledger_address(url)
    assert "secret" not in str(caught.value)


def test_only_its_owner_may_read_a_new_ledger(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        create_private_file(tmp_path / "state" / "ledger.db")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "state" / "ledger.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    create_private_file(tmp_path / "state" / "ledger.db")  # what exists is left as it is


def test_passwords_are_not_shown_wherever_they_stand() -> None:
    address = ledger_address("postgresql://u:secret@h/d?password=secret&sslpassword=secret&sslmode=require")
    assert address is not None
    shown = shown_address(address)
    assert "secret" not in shown
    assert "sslmode=require" in shown
    assert "password=***" in shown


def test_parameters_that_make_no_sense_are_one_error_without_their_secrets() -> None:
    address = ledger_address("postgresql://u@h/d?password=secret&port=x")
    assert address is not None
    with pytest.raises(LedgerOpenError, match=r"^ledger_url = .*: cannot be used: .*port") as caught:
        open_database(address, upgrade=True)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
