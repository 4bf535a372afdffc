"""`wattline top` as a process: one page or one object where nobody watches, one line where something is wrong."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import DEADLINE_SECONDS, FrontEnd, clean_environ
from tests.integration.terminal import on_a_terminal
from tests.live_body import live_body
from tests.local_http import serving


@dataclass(frozen=True, slots=True)
class Ended:
    code: int | None
    out: str
    err: str


async def top(*arguments: str, **environ: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "top", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environ() | environ,
    )
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    return Ended(process.returncode, out.decode(), err.decode())


async def complaint(*arguments: str, code: int = 2, **environ: str) -> str:
    ended = await top(*arguments, **environ)
    assert (ended.code, ended.out) == (code, ""), ended.err
    (line,) = ended.err.splitlines()
    return line.removeprefix("wattline: error: ")


async def answer(request: web.Request) -> web.StreamResponse:
    """A server whose only key is `sk-good`, under /locked, and several that are none."""
    under = request.path.split("/")[1]
    if under == "locked" and request.headers.get("Authorization") != "Bearer sk-good":
        return web.json_response({"error": {"message": "no"}}, status=401)
    statuses = {"tenant": 403, "ill": 503, "elsewhere": 404}
    if under in statuses:
        return web.json_response({}, status=statuses[under])
    bodies = {
        "text": "<html>",
        "other": json.dumps({"object": "list"}),
        "deep": "[" * 200_000,
        "huge": " " * 20_000_000,
        "infinite": json.dumps(live_body(power_watts={"gpu": float("inf")})),
    }
    return web.Response(text=bodies.get(under, json.dumps(live_body())))


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(answer) as found:
        yield found


async def test_one_page_where_nobody_watches(url: str) -> None:
    ended = await top(url)
    assert (ended.code, ended.err) == (0, "")
    assert "Power 329 W" in ended.out
    assert "\x1b" not in ended.out, "no colours in a pipe"
    assert (await top(url + "/", "--once")).out == ended.out


async def test_a_real_server_with_what_it_has_served(server: FrontEnd, client: aiohttp.ClientSession) -> None:
    for _ in range(2):
        assert (await ask(client, CHAT, HELLO | {"max_tokens": 5})).status == 200
    told = json.loads((await top(server.url, "--json")).out)
    assert (told["object"], told["requests"]["completed"], told["tokens"]["output"]) == ("energy.live", 2, 10)
    page = (await top(server.url, "--once")).out
    assert "not measured (estimate)" in page
    assert re.search(r"^remote-0 +ready +fake .* estimated$", page, re.MULTILINE), page
    assert re.search(r"^anonymous +2 +10 ", page, re.MULTILINE), page
    assert len(re.findall(r"^ *\d+ s .* completed ", page, re.MULTILINE)) == 2


async def test_what_the_server_tells_as_it_tells_it(url: str) -> None:
    assert json.loads((await top(url, "--json")).out) == live_body()


async def test_a_key_comes_from_a_variable(url: str) -> None:
    asked = await complaint(f"{url}/locked", "--once")
    assert asked == f"{url}/locked: the server wants a key: put an administrating tenant's into WATTLINE_API_KEY"
    refused = await complaint(f"{url}/locked", "--once", WATTLINE_API_KEY="sk-bad")
    assert refused == f"{url}/locked: the key in WATTLINE_API_KEY is not valid there"
    assert (await top(f"{url}/locked", "--once", "--key-env", "MINE", MINE="sk-good")).code == 0
    assert "not an administrating tenant's" in await complaint(f"{url}/tenant", "--json", WATTLINE_API_KEY="sk-x")


async def test_what_is_no_wattline_is_said_to_be_none(url: str) -> None:
    assert "answers 404 to GET /v1/energy/live" in await complaint(f"{url}/elsewhere", "--once")
    assert "something else than JSON" in await complaint(f"{url}/text", "--once")
    assert "is not what this wattline reads" in await complaint(f"{url}/other", "--once")


async def test_nobody_there_is_a_failure_and_no_mistake(url: str) -> None:
    assert await complaint(f"{url}/ill", "--once", code=1) == f"{url}/ill answers 503"
    assert await complaint("http://127.0.0.1:1", code=1) == "http://127.0.0.1:1: connection refused"


@pytest.mark.parametrize("under", ["deep", "huge", "infinite"])
async def test_nonsense_is_refused_before_it_does_harm(url: str, under: str) -> None:
    assert "it is no Wattline" in await complaint(f"{url}/{under}", "--once")


async def test_a_key_with_a_line_break_is_called_one(url: str) -> None:
    told = await complaint(url, "--once", WATTLINE_API_KEY="sk-good\n")
    assert told == "WATTLINE_API_KEY: expected a key, without line breaks and letters beyond ASCII"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
async def test_whatever_is_closed_it_does_what_it_can(url: str, closed: str) -> None:
    command = f'"$0" -m server top "$1" {closed}'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command, sys.executable, url), stderr=subprocess.PIPE, env=clean_environ()
    )
    _, err = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert (process.returncode, err.decode()) == (0, "")


async def test_where_output_is_not_unicode_it_is_escaped(url: str) -> None:
    ended = await top(url, PYTHONIOENCODING="ascii")
    assert (ended.code, ended.err) == (0, "")
    assert "\\u2588" in ended.out, "a bar"


async def test_https_where_there_is_none(url: str) -> None:
    assert "there is no TLS with it" in await complaint(url.replace("http:", "https:"), "--once", code=1)


@pytest.mark.parametrize("wrong", ["nonsense", "ftp://host", "http://", "http://host:x", "http://me:secret@host"])
async def test_a_url_that_is_none(wrong: str) -> None:
    said = await complaint(wrong)
    assert said.startswith("URL")
    assert "secret" not in said


async def test_an_interval_that_is_none(url: str) -> None:
    assert (await complaint(url, "--interval", "0")).startswith("interval = 0.0: expected seconds")
    assert "--interval" in await complaint(url, "--interval", "soon")


async def test_it_starts_without_the_server_and_the_engine() -> None:
    """What makes it start at once: none of these is imported."""
    heavy = ("torch", "vllm", "fastapi", "sqlalchemy", "prometheus_client", "uvicorn", "textual")
    code = f"import sys; import server.entry, server.cli_top; print([n for n in {heavy} if n in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_on_a_terminal_it_takes_the_screen_and_gives_it_back(url: str, number: signal.Signals) -> None:
    with on_a_terminal("top", url) as screen:
        await screen.shows("Traffic")
        assert "\x1b[?1049h" in screen.text(), "the other screen"
        screen.process.send_signal(number)
        assert await screen.ends() == 0
        assert "\x1b[?1049l" in screen.text(), "and back"


async def test_a_key_that_is_refused_leaves_the_screen_as_it_is(url: str) -> None:
    with on_a_terminal("top", f"{url}/locked") as screen:
        assert await screen.ends() == 2
        assert "\x1b[?1049h" not in screen.text()
        assert "the server wants a key" in screen.text()


async def test_a_terminal_that_can_only_print_is_printed_to(url: str) -> None:
    with on_a_terminal("top", url, TERM="dumb") as screen:
        assert await screen.ends() == 0
        assert "Traffic" in screen.text()
        assert "\x1b" not in screen.text()
