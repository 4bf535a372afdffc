"""The real server over the real engine, started once for all tests that leave it as they found it."""

import importlib.util
import os
import socket
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client_table import MARKER, ClientTable
from tests.e2e.figures import show
from tests.e2e.wattline_process import WATTLINE, WattlineProcess, clean_environ

_SHOWN_LOG_CHARACTERS = 8000
# Last come the tests that need a server of their own, and before them the one that kills the shared server's engine.
_LAST_FILES = (
    "test_engine_killed.py",
    "test_stand_alone.py",
    "test_engine_shapes.py",
    "test_nvml_books.py",
    "test_embeddings.py",
    "test_two_workers.py",
    "test_scheduler_faults.py",
    "test_front_end_killed.py",
    "test_broken_model.py",
)

# The next token is all but always the likeliest: what a test sees must not hang on luck. (At 0 vLLM refuses `n`.)
_LIKELIEST_TOKENS = ("--override-generation-config", '{"temperature": 0.01}')

StartServer = Callable[..., WattlineProcess]
_CLIENT_TABLE = pytest.StashKey[ClientTable]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}(name, feature, energy): a row of the table of clients")
    config.stash[_CLIENT_TABLE] = ClientTable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[_CLIENT_TABLE].lines():
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the shared server first, its engine's death last of them."""
    items.sort(key=lambda item: _LAST_FILES.index(item.path.name) if item.path.name in _LAST_FILES else -1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server printed beside the failure of a test that used it."""
    report = yield
    item.config.stash[_CLIENT_TABLE].take(item, report)
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, WattlineProcess):
        report.sections.append(("the server's output", server.log()[-_SHOWN_LOG_CHARACTERS:]))
    return report


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """The folder of the default model, fetched where it is missing. Skips where there is no engine to serve it."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed in this environment: `make e2e` installs it")
    fetched = subprocess.run(
        [str(WATTLINE), "model", "fetch", "smollm2"],
        env=clean_environ(os.environ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    )
    return Path(fetched.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WattlineProcess]:
    """The shared server: one engine, tool calls on, a context of 2048 tokens. Ctrl-C at the end must leave nothing."""
    engine_arguments = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--max-model-len", "2048"]
    engine_arguments.extend(_LIKELIEST_TOKENS)
    running = WattlineProcess(tmp_path_factory.mktemp("server") / "output.log", [], engine_arguments)
    try:
        show(f"shared server ready after {running.wait_ready():.1f} s")
        yield running
        show(f"shared server ended {running.stop():.1f} s after Ctrl-C")
    finally:
        running.discard()


@pytest.fixture
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test in which a client looks up any host but this one, telemetry and price lists included."""
    asked: list[str] = []
    look_up = socket.getaddrinfo

    def watched(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in {None, "", "127.0.0.1", "localhost"}:
            asked.append(name)
            raise socket.gaierror(socket.EAI_NONAME, "only this host may be asked for here")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    yield
    assert asked == []


@pytest.fixture
def start_server(checkpoint: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Starts a server of the test's own: `start_server(*arguments)`. It is not waited for."""
    started: list[WattlineProcess] = []

    def start(*arguments: str) -> WattlineProcess:
        log_path = tmp_path / f"output-{len(started)}.log"
        started.append(WattlineProcess(log_path, list(arguments), ["--max-model-len", "1024", *_LIKELIEST_TOKENS]))
        return started[-1]

    yield start
    for running in started:
        running.discard()
