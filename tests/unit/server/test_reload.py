import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from server.errors import SettingError
from server.reload import Reloader, ReloadHook
from server.settings import Settings, load_settings


class Limits:
    """A part of the server that takes up a setting."""

    def __init__(self, running: Settings) -> None:
        self.queued = running.max_queued_requests

    def reload(self, found: Settings) -> str:
        if found.max_queued_requests == 13:
            message = "max_queued_requests = 13: unlucky"
            raise SettingError(message)
        before, self.queued = self.queued, found.max_queued_requests
        return "" if before == self.queued else f"max_queued_requests {before} -> {self.queued}"


def reader(file: Path) -> Callable[[], Settings]:
    return lambda: load_settings({"worker_urls": ("unix:/engine.sock",)}, file)


def reloader(file: Path, *more: ReloadHook) -> tuple[Reloader, Limits]:
    running = reader(file)()
    limits = Limits(running)
    return Reloader(running, reader(file), (limits.reload, *more), frozenset({"max_queued_requests"})), limits


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "wattline.toml"
    file.write_text("max_queued_requests = 10\n")
    return file


@pytest.fixture(autouse=True)
def everything_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "wattline.server")


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_changed_file_is_taken_up(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    reloads, limits = reloader(file)
    file.write_text("max_queued_requests = 20\n")
    reloads.reload()
    assert limits.queued == 20
    reloads.reload()
    assert said(caplog) == [
        ("INFO", "reload: max_queued_requests 10 -> 20"),
        ("INFO", "reload: nothing to take up"),
    ]


@pytest.mark.parametrize("content", ["max_queued_requests = ", "max_queued_requests = -1", "prot = 1\n", None])
def test_a_bad_file_changes_nothing_and_is_one_line(
    file: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    reloads, limits = reloader(file)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    reloads.reload()
    assert limits.queued == 10
    ((level, message),) = said(caplog)
    assert level == "ERROR"
    assert message.startswith("reload: ")
    assert message.endswith("; everything stays as it was")


def test_one_part_that_refuses_does_not_keep_the_others(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    reloads, limits = reloader(file, lambda _: "certificate read again")
    file.write_text("max_queued_requests = 13\n")
    reloads.reload()
    assert limits.queued == 10
    assert said(caplog) == [
        ("ERROR", "reload: max_queued_requests = 13: unlucky; that stays as it was"),
        ("INFO", "reload: certificate read again"),
    ]


def test_what_only_a_restart_takes_up_is_named(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    reloads, _ = reloader(file)
    file.write_text("max_queued_requests = 20\nport = 9000\nstall_seconds = 7\n")
    reloads.reload()
    assert said(caplog)[1] == (
        "WARNING",
        "reload: changed, but only a restart takes them up: port, stall_seconds",
    )
