"""Keys that the command line makes and ends in the database, as a server that runs meanwhile sees them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from server.access.database_keys import DatabaseKeyStore
from server.access.gate import Gate
from server.access.key_watch import POLL_SECONDS, KeyWatch
from server.api_error import ApiError
from server.cli_keys import keys_app
from server.ledger.address import ledger_address
from server.ledger.database import open_database
from server.ledger.reader import LedgerReader

FOR_EVER_SECONDS = 3600.0
# Two seconds are promised; a machine that is busy with other tests may take longer.
GIVE_UP_SECONDS = 20.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    address = ledger_address(url)
    assert address is not None
    engine = open_database(address, upgrade=True)
    yield engine
    engine.dispose()


def keys(url: str, *arguments: str) -> None:
    keys_app(args=[*arguments, "--ledger", url], prog_name="wattline keys", standalone_mode=False)


def opens(gate: Gate, token: str) -> bool:
    try:
        return gate.identify([(b"authorization", b"Bearer " + token.encode())]).key_id is not None
    except ApiError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + GIVE_UP_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


@pytest.mark.parametrize("poll_seconds", [POLL_SECONDS, FOR_EVER_SECONDS], ids=["by itself", "on reload"])
def test_keys_are_noticed(engine: Engine, url: str, poll_seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    gate = Gate({}, LedgerReader(engine).spent_microjoules, time.monotonic, time.time)
    watch = KeyWatch(DatabaseKeyStore(engine), gate.replace_keys, poll_seconds)
    watch.start()
    try:
        assert not gate.has_keys
        keys(url, "create", "--tenant", "team-a", "--name", "n")
        token = capsys.readouterr().out.strip()
        if poll_seconds == FOR_EVER_SECONDS:
            watch.reload()
        wait_until(lambda: opens(gate, token))
        keys(url, "revoke", token.split("-")[2])
        if poll_seconds == FOR_EVER_SECONDS:
            watch.reload()
        wait_until(lambda: not opens(gate, token))
        assert gate.has_keys
    finally:
        watch.stop()
