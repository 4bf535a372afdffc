"""What `wattline serve` says of itself: at the start, while it waits, and in one line at the end."""

import asyncio
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import END_SECONDS, EngineProcess, FrontEnd, ended, fake_engine, front_end
from tests.integration.terminal import on_a_terminal

SUMMARY = re.compile(
    r"^wattline: stopped after (?P<seconds>\d+) s: (?P<requests>\d+) requests, (?P<output>\d+) output tokens, "
    r"(?P<prompt>\d+) prompt tokens, energy (?P<joules>[\d.]+) J \((?P<nature>[^)]+)\): requests (?P<used>[\d.]+) J, "
    r"(?P<each>[\d.]+) J per output token, idle (?P<idle>[<>]?\d+) %$"
)


async def test_the_banner_says_what_is_served_and_where(server: FrontEnd) -> None:
    lines = server.output().splitlines()
    said = dict(line.removeprefix("wattline: ").split(maxsplit=1) for line in lines[:10])
    assert said["Wattline"].endswith(f"listening on {server.url}")
    assert said["model"] == "those of 1 attached server"
    assert said["energy"] == "as the attached servers tell it"
    assert said["policy"].startswith("energy, targets p99 TTFT 1 s")
    assert said["keys"] == "none: whoever is on this machine may send requests"
    assert said["ledger"].startswith("sqlite:///")
    assert said["API"] == f"{server.url}/v1"
    assert said["metrics"] == f"{server.url}/metrics"
    assert said["terminal"] == f"wattline top {server.url}"
    assert "\x1b" not in server.output(), "no colours in a file"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_line_sums_up_and_agrees_with_the_answers(tmp_path: Path, number: signal.Signals) -> None:
    async with (
        fake_engine(tmp_path, "--decode-tokens-per-second", "100") as engine,
        front_end(tmp_path, engine.url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        answers = [await ask(client, CHAT, HELLO | {"max_tokens": 20}) for _ in range(3)]
        server.process.send_signal(number)
        assert await ended(server.process, END_SECONDS) == 0
        *_, before, last = server.output().splitlines()
    found = SUMMARY.match(last)
    assert found is not None, last
    assert "stopping" in before, "one line, and nothing after it"
    usages = [answer.json()["usage"] for answer in answers]
    told_joules = float(sum(answer.json()["energy"]["energy_joules"] for answer in answers))
    assert int(found["requests"]) == 3
    assert int(found["output"]) == sum(usage["completion_tokens"] for usage in usages) == 60
    assert int(found["prompt"]) == sum(usage["prompt_tokens"] for usage in usages)
    # The answers tell what was known at their ends; the accounts follow the counter. Three digits are printed.
    assert float(found["used"]) == pytest.approx(told_joules, rel=0.05)
    assert float(found["each"]) == pytest.approx(told_joules / 60, rel=0.06)
    assert float(found["joules"]) > float(found["used"])
    assert found["nature"] == "not measured: estimate"


async def test_energy_that_nobody_told_is_not_known(tmp_path: Path) -> None:
    async with front_end(tmp_path, f"unix:{tmp_path}/nobody.sock", wait_ready=False) as server:
        server.process.terminate()
        assert await ended(server.process, END_SECONDS) == 0
        last = server.output().splitlines()[-1]
    assert last.endswith("0 prompt tokens, energy ? (remote-0: the worker has not reported yet)")


async def test_on_a_terminal_it_is_drawn_in_colour_and_waits_in_place(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        with on_a_terminal(*serve(engine), TERM="xterm-256color") as screen:
            await screen.shows("ready after")
            screen.process.send_signal(signal.SIGINT)
            assert await screen.ends() == 0
            text = screen.text()
    assert "\x1b[1;32mWattline" in text
    assert "wattline top http://127.0.0.1:" in re.sub(r"\x1b\[[\d;]*m", "", text)
    assert re.search(r"loading remote-0: \d+ s", text)
    assert "\x1b[?25h" in text, "the cursor is shown again"
    assert text.rstrip().splitlines()[-1].startswith("wattline: stopped after")


async def test_on_a_terminal_without_colour(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        with on_a_terminal(*serve(engine), NO_COLOR="1") as screen:
            await screen.shows("ready after")
            screen.process.terminate()
            assert await screen.ends() == 0
            colours = re.findall(r"\x1b\[(?:[\d;]*;)?[34]\dm", screen.text())
    assert colours == []


async def test_a_terminal_that_cannot_move_its_cursor_is_written_to_line_by_line(tmp_path: Path) -> None:
    with on_a_terminal(*serve_nobody(tmp_path), TERM="dumb") as screen:
        await screen.shows("wattline: terminal   wattline top")
        await asyncio.sleep(0.3)
        screen.process.terminate()
        assert await screen.ends() == 0
        assert "\x1b" not in screen.text()


async def test_stopped_while_it_waits_it_leaves_the_terminal_in_order(tmp_path: Path) -> None:
    with on_a_terminal(*serve_nobody(tmp_path)) as screen:
        await screen.shows("loading remote-0")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ends() == 0
        text = screen.text()
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor is shown again"
    assert "Traceback" not in text
    assert "stopped after" in text


def serve(engine: EngineProcess) -> tuple[str, ...]:
    return ("serve", "--port", "0", "--ledger-url", "none", "--worker-url", engine.url)


def serve_nobody(folder: Path) -> tuple[str, ...]:
    return ("serve", "--port", "0", "--ledger-url", "none", "--worker-url", f"unix:{folder}/nobody.sock")
