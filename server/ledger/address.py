"""Where the ledger is: the operator's URL, checked and completed. Opens nothing but a new file's permissions."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.errors import SettingError

NO_LEDGER: Final = "none"
_EXPECTED: Final = "expected sqlite:///PATH, postgresql://USER@HOST/DATABASE or none"
_HIDDEN: Final = "***"
_POSTGRESQL: Final = frozenset({"postgresql", "postgres", "postgresql+psycopg"})


def default_ledger_url(environ: Mapping[str, str]) -> str:
    """A SQLite file in the user's state folder, by the XDG base directory specification.

    Raises:
        SettingError: there is no such folder, as for a user that the system does not know.
    """
    state = environ.get("XDG_STATE_HOME")
    try:
        folder = Path(state) if state and Path(state).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError:
        raise SettingError(f"ledger_url is not set, and there is no home folder to keep it in: {_EXPECTED}") from None
    return f"sqlite:///{folder / 'wattline' / 'ledger.db'}"


def ledger_address(url: str) -> URL | None:
    """The database that a setting means, None for `none`.

    Raises:
        SettingError: it names no database that can hold a ledger.
    """
    if url == NO_LEDGER:
        return None
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingError(f"ledger_url: {_EXPECTED}") from None  # it may hold a password: not repeated
    shown = shown_address(address)
    if address.drivername in {"sqlite", "sqlite+pysqlite"}:
        if address.database in {None, "", ":memory:"} or address.query:
            raise SettingError(f"ledger_url = {shown!r}: expected a file, as in sqlite:///PATH")
        return address.set(drivername="sqlite")
    if address.drivername in _POSTGRESQL:
        if importlib.util.find_spec("psycopg") is None:
            raise SettingError(f"ledger_url = {shown!r}: PostgreSQL needs Wattline's extra `postgres`")
        return address.set(drivername="postgresql+psycopg")
    raise SettingError(f"ledger_url = {shown!r}: {_EXPECTED}")


def shown_address(address: URL) -> str:
    """The URL without its passwords: those that stand where URLs have them, and those among libpq's own parameters."""
    query = {name: _HIDDEN if "password" in name.lower() else value for name, value in address.query.items()}
    return address.set(query=query).render_as_string(hide_password=True).replace(quote_plus(_HIDDEN), _HIDDEN)


def create_private_file(path: Path) -> None:
    """Make an empty file that only its owner may read, in a folder likewise; what exists is left as it is.

    SQLite gives its write-ahead log the permissions of the database.

    Raises:
        OSError: the file cannot be made.
    """
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
