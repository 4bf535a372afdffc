import logging
import threading
from collections.abc import Hashable, Sequence

import pytest

from server.access.key import Ending, StoredKey
from server.access.key_store import MemoryKeyStore
from server.access.key_watch import KeyWatch

KEY = StoredKey("0001", "team-a", "laptop", "ab" * 32, 100.0)
FOR_EVER_SECONDS = 3600.0


class FaultyStore(MemoryKeyStore):
    """A database that is down while told to be."""

    is_down = False

    def version(self) -> Hashable:
        if self.is_down:
            raise OSError("no connection")
        return super().version()


class Takings:
    """Whatever was handed out, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[list[StoredKey]] = []
        self.fault: Exception | None = None
        self._changed = threading.Condition()

    def take(self, keys: Sequence[StoredKey]) -> None:
        if self.fault is not None:
            raise self.fault
        with self._changed:
            self.all.append(list(keys))
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, timeout=10)


def test_keys_are_handed_out_when_they_changed_and_only_then() -> None:
    store, takings = FaultyStore(), Takings()
    watch = KeyWatch(store, takings.take)
    watch.look()
    watch.look()
    assert takings.all == [[]]
    store.write(KEY)
    watch.look()
    watch.look()
    assert takings.all == [[], [KEY]]


def test_a_change_that_could_not_be_taken_is_handed_out_again() -> None:
    store, takings = FaultyStore(), Takings()
    watch = KeyWatch(store, takings.take)
    takings.fault = OSError("the ledger is down")
    with pytest.raises(OSError, match="ledger"):
        watch.look()
    takings.fault = None
    watch.look()
    assert takings.all == [[]]


def test_a_database_that_is_down_at_the_start_is_said_at_once() -> None:
    store = FaultyStore()
    store.is_down = True
    with pytest.raises(OSError, match="no connection"):
        KeyWatch(store, Takings().take).start()


def test_a_reload_looks_at_once() -> None:
    store, takings = FaultyStore(), Takings()
    watch = KeyWatch(store, takings.take, FOR_EVER_SECONDS)
    watch.start()
    store.write(KEY)
    watch.reload()
    takings.wait_for(2)
    watch.stop()
    assert takings.all == [[], [KEY]]


def test_changes_are_noticed_without_a_reload() -> None:
    store, takings = FaultyStore(), Takings()
    watch = KeyWatch(store, takings.take, poll_seconds=0.01)
    watch.start()
    store.write(KEY)
    takings.wait_for(2)
    store.write(ending=Ending(KEY.key_id, 200.0, is_revoked=True))
    takings.wait_for(3)
    watch.stop()
    assert takings.all[-1][0].revoked_unix_seconds == 200.0


def test_an_outage_is_told_once_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    store, takings = FaultyStore(), Takings()
    watch = KeyWatch(store, takings.take, poll_seconds=0.01)
    takings.fault = None
    watch.start()
    with caplog.at_level(logging.INFO):
        store.is_down = True
        store.write(KEY)
        while not caplog.records:
            threading.Event().wait(0.01)
        store.is_down = False
        takings.wait_for(2)
        watch.stop()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert takings.all == [[], [KEY]]


def test_a_watch_that_never_began_stops() -> None:
    KeyWatch(FaultyStore(), Takings().take).stop()
