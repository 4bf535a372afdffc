"""Notices keys that were made, ended or revoked by other processes, while the server runs."""

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from server.access.key import StoredKey
from server.access.key_store import KeyStore

POLL_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


class KeyWatch:
    """Hands all keys to `take` whenever they have changed: once at `start`, later from a thread of its own.

    Keys that cannot be read for a while stay as they were last read.
    """

    def __init__(
        self, store: KeyStore, take: Callable[[Sequence[StoredKey]], None], poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._store = store
        self._take = take
        self._poll_seconds = poll_seconds
        self._taken: Hashable = None
        self._is_failing = False
        self._is_stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="key-watch", daemon=True)

    def start(self) -> None:
        """Read the keys before this returns, then go on watching. What the store raises the first time is raised."""
        self.look()
        self._thread.start()

    def reload(self) -> None:
        """Look now instead of at the next turn; returns at once and may be called from a signal handler."""
        self._wake.set()

    def stop(self) -> None:
        """Watch no longer."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """One look."""
        version = self._store.version()  # before the keys: what changes in between is seen at the next look
        if version != self._taken:
            self._take(self._store.keys())
            self._taken = version

    def _run(self) -> None:
        while not self._is_stopping:
            self._wake.wait(self._poll_seconds)
            self._wake.clear()
            if not self._is_stopping:
                self._look_again()

    def _look_again(self) -> None:
        try:
            self.look()
        except Exception:  # noqa: BLE001  # the thread's supervisor: the keys it has stay valid whatever is raised
            if not self._is_failing:
                _LOG.warning("keys cannot be read; those last read stay valid", exc_info=True)
            self._is_failing = True
        else:
            if self._is_failing:
                _LOG.info("keys can be read again")
            self._is_failing = False
