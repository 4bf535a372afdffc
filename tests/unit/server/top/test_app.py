"""The screen and its keys, without a terminal: Textual's own pilot presses them."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from server.top.app import TopApp
from server.top.errors import KeyRefusedError, SilentServerError
from server.top.grid_table import GridTable
from server.top.help_screen import HelpScreen
from tests.live_body import live_body, live_request, live_worker
from tests.unit.server.top.told_source import ToldSource

URL = "http://127.0.0.1:8000"


class Top:
    """A running screen."""

    def __init__(self, app: TopApp, source: ToldSource, pilot: Pilot[None]) -> None:
        self.app = app
        self.source = source
        self.pilot = pilot

    async def tell(self, answer: object) -> None:
        await self.source.tell(answer)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def text(self) -> str:
        """What one would read."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def is_helping(self) -> bool:
        return isinstance(self.app.screen, HelpScreen)

    def first_words(self) -> list[str]:
        """Of the rows of the table in sight."""
        table = self.app.query_one(f"#{self.app.state.view}", GridTable)
        return [str(table.get_row_at(number)[0]) for number in range(table.row_count)]


@contextlib.asynccontextmanager
async def running(size: tuple[int, int] = (120, 36)) -> AsyncIterator[Top]:
    source = ToldSource()
    clock = [0.0]

    async def at_once(_: float) -> None:
        clock[0] += 1

    app = TopApp(source, URL, 1.0, lambda: clock[0], at_once)
    async with app.run_test(size=size) as pilot:
        yield Top(app, source, pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 50), (40, 12)])
async def test_it_shows_what_the_server_tells(size: tuple[int, int]) -> None:
    async with running(size) as top:
        assert "Waiting for the server" in top.text()
        await top.tell(live_body())
        text = top.text()
        assert "Power 329 W" in text
        assert "1 Overview" in text
        lines = text.split("\n")
        assert len(lines) == size[1]
        await top.tell(live_body(power_watts={"cpu": 10.0}))
        assert "Power 10.0 W" in top.text()


async def test_keys_go_from_view_to_view() -> None:
    async with running() as top:
        await top.tell(live_body())
        for key, words in (("2", "measured nvml+rapl"), ("3", "req-19"), ("4", "5 % of the day's"), ("1", "Traffic")):
            await top.press(key)
            assert words in top.text()
        await top.press("tab")
        assert top.app.state.view == "workers"
        await top.press("shift+tab", "shift+tab")
        assert top.app.state.view == "tenants"


async def test_views_can_be_clicked_at() -> None:
    async with running((80, 24)) as top:
        await top.tell(live_body())
        await top.pilot.click("#views", offset=(top.text().split("\n")[1].index("Requests"), 0))
        await top.pilot.pause()
        assert top.app.state.view == "requests"


async def test_the_row_one_is_at_explains_itself_and_stays_while_figures_change() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.press("2", "down")
        assert "vllm-1: no power is known; energy not known: the worker has not reported yet" in top.text()
        new = live_worker("vllm-9", source="estimate", measured=False, reason="no sensor here")
        await top.tell(live_body(workers=[new, live_worker("vllm-0"), live_worker("vllm-1")]))
        assert "vllm-1: gpu 288 W, cpu 41.0 W; energy measured (nvml+rapl)" in top.text()
        await top.press("up", "up")
        assert "energy not measured (estimate): no sensor here" in top.text()


async def test_sorting_goes_from_column_to_column_and_says_by_which() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.press("4")
        assert top.first_words() == ["zoo", "acme", "new"]
        assert "energy▾" in top.text()
        await top.press("s")
        assert "tenant▾" in top.text()
        assert top.first_words() == ["acme", "new", "zoo"]
        await top.press("S")
        assert top.first_words() == ["zoo", "acme", "new"], "in its own order"


async def test_a_filter_is_typed_kept_and_cleared() -> None:
    async with running((80, 24)) as top:
        await top.tell(live_body())
        await top.press("3", "slash", *"req-1")
        assert len(top.first_words()) == 10
        await top.press("enter")
        assert not top.app.query_one("#filter", Input).display
        await top.press("p")
        assert top.app.state.is_paused, "keys are commands again"
        assert "Rows with “req-1”" in top.text()
        await top.press("slash", *"q", "escape")
        assert len(top.first_words()) == 20
        assert "Rows with" not in top.text()
        assert top.app.is_running, "q was a letter"


async def test_a_filter_that_nothing_meets_leaves_an_empty_table() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.press("2", "slash", *"nobody", "enter", "s", "down")
        assert top.first_words() == []
        await top.press("1")
        assert "none" in top.text()


async def test_paused_it_holds_what_is_shown() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.press("p")
        await top.tell(live_body(power_watts={"cpu": 10.0}))
        assert "Power 329 W" in top.text()
        assert "Paused" in top.text()
        await top.press("p")
        assert "Power 10.0 W" in top.text()
        assert "Paused" not in top.text()


async def test_a_server_that_is_gone_is_said_to_be_and_taken_back() -> None:
    async with running((80, 24)) as top:
        await top.tell(SilentServerError("connection refused"))
        assert "No answer: connection refused; trying again" in top.text()
        await top.tell(live_body())
        assert "No answer" not in top.text()
        await top.tell(SilentServerError("connection refused"))
        await top.tell(SilentServerError("connection refused"))
        assert "No answer for 1 s: connection refused" in top.text()
        assert "Power 329 W" in top.text(), "what was last known"
        await top.tell(live_body())
        assert "No answer" not in top.text()


async def test_what_stands_in_for_a_server_that_restarts_is_waited_out() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.tell({"object": "list"})
        assert "No answer for 0 s: what it answers is not what this wattline reads" in top.text()
        await top.tell(live_body())
        assert "No answer" not in top.text()


async def test_a_key_that_is_refused_ends_it_with_the_reason() -> None:
    async with running() as top:
        await top.tell(live_body())
        top.source.tell_last(KeyRefusedError("revoked"))
        await top.pilot.pause()
        await top.pilot._wait_for_screen()
    assert str(top.app.failure) == "revoked"
    assert top.app.return_code == 2
    assert top.source.is_closed


async def test_another_size_is_laid_out_anew() -> None:
    async with running((120, 36)) as top:
        await top.tell(live_body())
        await top.press("2")
        assert "tokens/s" in top.text()
        await top.pilot.resize_terminal(60, 20)
        await top.pilot.pause()
        assert "tokens/s" not in top.text()
        assert "vllm-0" in top.text()
        await top.press("1")
        await top.pilot.resize_terminal(80, 24)
        await top.pilot.pause()
        assert "Traffic" in top.text()


async def test_help_covers_the_screen_until_a_key_is_pressed() -> None:
    async with running((80, 24)) as top:
        await top.tell(live_body())
        await top.press("question_mark")
        assert top.is_helping()
        assert "pause, and go on" in top.text()
        await top.tell(live_body(power_watts={"cpu": 10.0}))
        await top.press("escape")
        assert not top.is_helping()
        assert "Power 10.0 W" in top.text()


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_it_quits(key: str) -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.pilot.press(key)
    assert top.app.return_code == 0
    assert top.app.failure is None
    assert top.source.is_closed


async def test_ids_of_two_requests_may_be_the_same() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.press("3")
        await top.tell(live_body(recent_requests=[live_request(1), live_request(1)]))
        assert len(top.first_words()) == 2


async def test_a_server_may_tell_of_one_worker_twice() -> None:
    async with running() as top:
        await top.tell(live_body())
        await top.press("2")
        await top.tell(live_body(workers=[live_worker("vllm-0"), live_worker("vllm-0")]))
        assert top.first_words() == ["vllm-0", "vllm-0"]


async def test_the_row_one_is_at_moves_with_its_request() -> None:
    async with running() as top:
        await top.tell(live_body(recent_requests=[live_request(1)]))
        await top.press("3")
        await top.tell(live_body(recent_requests=[live_request(0), live_request(1)]))
        assert top.app.query_one("#requests", GridTable).cursor_row == 1


@pytest.mark.parametrize("size", [(20, 5), (1, 1)])
async def test_a_screen_too_small_for_anything_breaks_nothing(size: tuple[int, int]) -> None:
    async with running(size) as top:
        await top.tell(live_body(tenants=[{"tenant": "[red]\x1b[2J" * 500}]))
        await top.press("2", "3", "4", "slash", "x", "escape", "s", "question_mark", "escape", "1")
        await top.pilot.resize_terminal(80, 24)
        await top.pilot.pause()
        assert "Traffic" in top.text()
