"""A PostgreSQL of one's own, from the system's packages: reached over a Unix socket, gone when the tests are."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

# The server refuses to run as root.
_UNPRIVILEGED = ("postgres", "nobody")
_START_SECONDS = 20


class ClusterMissingError(Exception):
    """The machine has no PostgreSQL server; the message says how to get one."""


class PostgresqlCluster:
    """A server in a folder; each `database()` is new and empty. Not started yet."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self._folder = folder
        self._programs = programs
        self._run_as = user
        self._process: subprocess.Popen[bytes] | None = None
        self._schemas = 0

    def initialise(self) -> None:
        command = ["initdb", "--auth=trust", "--username=wattline", "--encoding=UTF8", "--no-sync", "--no-locale"]
        self._spawn([*command, "data"]).wait()

    def start(self) -> None:
        # Nobody cuts the power of a test: without fsync it starts and answers faster.
        arguments = ["-D", "data", "-k", str(self._folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        self._process = self._spawn(["postgres", *arguments])
        give_up_at = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > give_up_at or self._process.poll() is not None:
                    log = (self._folder / "log").read_text()
                    raise AssertionError(f"PostgreSQL did not start:\n{log}") from None
            time.sleep(0.02)

    def stop(self) -> None:
        """End every connection at once; what was committed stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(10)
            self._process = None

    def database(self) -> str:
        """The URL of what looks like a new database: a schema of its own, made in a hundredth of the time."""
        self._schemas += 1
        name = f"ledger_{self._schemas}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"postgresql://wattline@/postgres?host={self._folder}&options=-csearch_path%3D{name}"

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(host=str(self._folder), user="wattline", dbname="postgres", autocommit=True)

    def _spawn(self, command: list[str]) -> "subprocess.Popen[bytes]":
        path = str(self._programs / command[0])
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [path, *command[1:]],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                user=self._run_as,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            )


@contextmanager
def postgresql_cluster() -> Iterator[PostgresqlCluster]:
    """A running server.

    Raises:
        ClusterMissingError: this machine has none.
    """
    programs = _server_programs()
    user = _unprivileged_user() if os.geteuid() == 0 else None
    # Not in pytest's own folder: only the user who runs the tests may enter that.
    folder = Path(tempfile.mkdtemp(prefix="wattline-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    cluster = PostgresqlCluster(folder, programs, user)
    try:
        cluster.initialise()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def _server_programs() -> Path:
    """The folder of `initdb` and `postgres`; Debian keeps them out of the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        folders.append(Path(found).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ClusterMissingError("PostgreSQL's server is not installed: apt-get install postgresql")


def _unprivileged_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED:
        if name in names:
            return name
    raise ClusterMissingError("PostgreSQL does not run as root, and there is no user postgres or nobody")
