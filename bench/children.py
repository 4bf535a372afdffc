"""Child processes of a benchmark: started, waited for, measured, and always ended."""

import contextlib
import http.client
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Never
from urllib.parse import urlsplit

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.05
TERMINATE_SECONDS = 5.0  # what a child may take to stop on request before it is killed
LOG_TAIL_CHARACTERS = 2000
BYTES_PER_KIBIBYTE = 1024


class ChildFailedError(RuntimeError):
    """A child process ended or stayed silent; the message holds the end of its output."""


@contextlib.contextmanager
def child(
    command: Sequence[str],
    ready_url: str,
    ready_path: str,
    ready_seconds: float,
    end_seconds: float = TERMINATE_SECONDS,
) -> Iterator[int]:
    """Runs a process for the time of the block, which begins once it answers 200 on `ready_path`.

    Yields its process id. It is stopped however the block ends: asked to, and killed after `end_seconds`.

    Raises:
        ChildFailedError: it ended, or was not ready in time.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=PROJECT_FOLDER
        )
        try:
            if not _becomes_ready(process, ready_url, ready_path, ready_seconds):
                log.seek(0)
                tail = log.read().decode(errors="replace")[-LOG_TAIL_CHARACTERS:]
                state = "was not ready in time" if process.poll() is None else "ended"
                raise ChildFailedError(f"{' '.join(command)} {state}:\n{tail}")
            yield process.pid
        finally:
            _end(process, end_seconds)


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM unwind the stack as Ctrl-C does, so that the children of the block are ended."""

    def stop(_number: int, _frame: object) -> Never:
        raise SystemExit(128 + signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def peak_rss_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """The most memory the process ever held (`VmHWM`, proc_pid_status(5))."""
    return _status_bytes(pid, "VmHWM", proc)


def rss_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """The memory the process holds now (`VmRSS`)."""
    return _status_bytes(pid, "VmRSS", proc)


def _status_bytes(pid: int, field: str, proc: Path) -> int:
    """A field of proc_pid_status(5) that is in units of 1,024 bytes."""
    for line in (proc / str(pid) / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * BYTES_PER_KIBIBYTE
    raise ChildFailedError(f"process {pid} has no {field}: it has ended")


def _becomes_ready(process: subprocess.Popen[bytes], url: str, path: str, seconds: float) -> bool:
    deadline_seconds = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline_seconds:
        if _status(url, path) == http.HTTPStatus.OK:
            return True
        time.sleep(POLL_SECONDS)
    return False


def _status(url: str, path: str) -> int | None:
    """The status of a GET, None where nothing answers yet."""
    connection = http.client.HTTPConnection("localhost", timeout=1)
    try:
        if url.startswith("unix:"):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(1)
            connection.sock.connect(url.removeprefix("unix:"))
        else:
            parts = urlsplit(url)
            connection.sock = socket.create_connection((parts.hostname, parts.port or 80), timeout=1)
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
