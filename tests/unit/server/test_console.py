"""The same words on a terminal, in a file and in a log for machines."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console as RichConsole

from server.banner import BannerLine
from server.console import Console, open_terminal
from server.logs import configure_logging

HEADING = "Wattline 0.1.0, listening on http://127.0.0.1:8000"
LINES = [
    BannerLine("energy", "estimate, not measured (cpu)"),
    BannerLine("keys", "anyone may send requests", is_warning=True),
    BannerLine("API", "http://127.0.0.1:8000/v1"),
]


@pytest.fixture
def terminal() -> RichConsole:
    return RichConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=60, highlight=False)


@pytest.fixture
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)


def drawn(terminal: RichConsole) -> str:
    assert isinstance(terminal.file, io.StringIO)
    return terminal.file.getvalue()


def test_in_a_file_every_line_says_who_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    Console("text").banner(HEADING, LINES)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"wattline: {HEADING}",
        "wattline: energy     estimate, not measured (cpu)",
        "wattline: WARNING: anyone may send requests",
        "wattline: API        http://127.0.0.1:8000/v1",
    ]


def test_on_a_terminal_it_is_laid_out_in_colour(terminal: RichConsole) -> None:
    Console("text", terminal).banner(HEADING, LINES)
    said = drawn(terminal)
    assert "\x1b[1;32mWattline 0.1.0\x1b[0m" in said
    assert "wattline: " not in said
    assert "\x1b[1;33mWARNING: anyone may send requests" in said


def test_without_colour_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = RichConsole(file=io.StringIO(), force_terminal=True, color_system="standard", width=60)
    Console("text", terminal).banner(HEADING, LINES)
    assert "\x1b[32m" not in drawn(terminal)
    assert "32mWattline" not in drawn(terminal)


@pytest.mark.usefixtures("_logging")
def test_for_machines_each_line_is_an_object() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", access_log=False, stream=stream)
    Console("json").banner(HEADING, LINES)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert told[0]["event"] == HEADING
    assert [line["level"] for line in told] == ["info", "info", "warning", "info"]


@pytest.mark.usefixtures("_logging")
def test_log_lines_keep_clear_of_what_is_shown_in_place(terminal: RichConsole) -> None:
    stream = io.StringIO()
    configure_logging("info", "text", access_log=False, stream=stream)
    with Console("text", terminal).in_place() as show:
        assert show is not None
        show("loading vllm-0: 3 s")
        logging.getLogger("wattline").info("a worker is ready")
    logging.getLogger("wattline").info("later")
    assert "a worker is ready" in drawn(terminal)
    assert "loading vllm-0: 3 s" in drawn(terminal)
    assert stream.getvalue().splitlines()[-1].endswith("later")


def test_nothing_is_shown_in_place_where_nobody_looks(terminal: RichConsole) -> None:
    with Console("text").in_place() as show:
        assert show is None
    with Console("json", terminal).in_place() as show:
        assert show is None


def test_a_pipe_or_a_dumb_terminal_is_no_terminal() -> None:
    assert open_terminal({"TERM": "xterm"}) is None, "the test's standard error is captured"
