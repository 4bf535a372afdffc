import os
import pty
from collections.abc import Callable

from server.hangup import Hangup


def told(happen: Callable[[Hangup], None], terminal_fd: int) -> list[str]:
    said: list[str] = []
    happen(Hangup(terminal_fd, lambda: said.append("reload"), lambda: said.append("stop")))
    return said


def test_a_service_reloads() -> None:
    reading, writing = os.pipe()
    assert told(lambda hangup: hangup(), writing) == ["reload"]
    os.close(reading)
    os.close(writing)


def test_a_terminal_that_is_there_reloads_and_one_that_has_gone_ends_the_server() -> None:
    master, terminal = pty.openpty()

    def happen(hangup: Hangup) -> None:
        hangup()
        os.close(master)
        hangup()

    assert told(happen, terminal) == ["reload", "stop"]
    os.close(terminal)
