"""The screen and the keys. Everything that is decided or laid out is so elsewhere; this carries it to and fro."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import ContentSwitcher, DataTable, Footer, Input, Static

from server.errors import SettingError
from server.top.connection import LiveSource
from server.top.errors import NotWattlineError, SilentServerError
from server.top.frame import notice_line, overview, title_line
from server.top.grid_table import GridTable
from server.top.help_screen import HelpScreen
from server.top.live_body import read_live_body
from server.top.state import VIEWS, TopState
from server.top.tables import GRIDS, grid_of

Wait = Callable[[float], Coroutine[Any, Any, None]]
_SORT_FORWARD: Final = 1
_SORT_BACK: Final = -1


class Overview(Widget):
    """The first view, laid out anew for whatever size it has."""

    def __init__(self) -> None:
        super().__init__(id=VIEWS[0])
        self._state = TopState()

    def show(self, state: TopState) -> None:
        """Show this from now on."""
        self._state = state
        self.refresh()

    def render(self) -> Text:
        return overview(self._state, self.content_size.width, self.content_size.height)


class FilterBox(Input):
    """Where the words to look for are written. Enter closes it at once: the next key is for the table again."""

    def __init__(self, close: Callable[[], None]) -> None:
        super().__init__(placeholder="words of the rows to show", id="filter")
        self._close = close

    async def action_submit(self) -> None:
        self._close()


class TopApp(App[None]):
    """Asks `source` every `interval_seconds`, and shows what it says. `failure` is why it gave up by itself, if so."""

    CSS_PATH = "top.tcss"
    TITLE = "wattline top"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("p", "pause", "Pause"),
        Binding("s", f"sort({_SORT_FORWARD})", "Sort"),
        Binding("S", f"sort({_SORT_BACK})", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "show_all", show=False),
        Binding("tab", "step(1)", "Next view", priority=True),
        Binding("shift+tab", "step(-1)", show=False, priority=True),
        *(Binding(str(number), f"view('{view}')", show=False) for number, view in enumerate(VIEWS, 1)),
        Binding("question_mark", "help", "Help", key_display="?"),
    ]

    def __init__(
        self,
        source: LiveSource,
        url: str,
        interval_seconds: float,
        clock: Callable[[], float],
        wait: Wait = asyncio.sleep,
    ) -> None:
        super().__init__()
        self.state = TopState()
        self.failure: SettingError | None = None
        self._source = source
        self._url = url
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._wait = wait

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Static(id="views")
        yield Static(id="notice")
        with ContentSwitcher(initial=VIEWS[0], id="content"):
            yield Overview()
            for view in VIEWS[1:]:
                yield GridTable(view)
        yield Static(id="detail")
        yield FilterBox(self._close_filter)
        yield Footer()

    def on_mount(self) -> None:
        if not self.is_headless:
            # An interrupt ends it as `q` does; asyncio by itself would cancel whatever Textual is at.
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self.run_worker(self._poll(), name="poll", exclusive=True)
        self._show()

    async def _poll(self) -> None:
        """Ask again and again. Who cannot be asked for reasons that will not pass ends the program."""
        async with self._source as source:
            while True:
                try:
                    body = read_live_body(await source.fetch())
                    self.state = self.state.received(body)  # as keys have made it meanwhile
                except (SilentServerError, NotWattlineError) as error:  # or what stands in for it while it restarts
                    self.state = self.state.lost(str(error), self._clock())
                except SettingError as error:
                    self.failure = error
                    self.exit(return_code=2)
                    return
                self._show()
                await self._wait(self._interval_seconds)

    def action_pause(self) -> None:
        self._become(self.state.paused())

    def action_view(self, view: str) -> None:
        self._become(self.state.viewing(view))

    def action_step(self, steps: int) -> None:
        self._become(self.state.stepped(steps))

    def action_sort(self, steps: int) -> None:
        """By the next column; past the last one comes the table's own order."""
        view = self.state.view
        if view in GRIDS:
            column = grid_of(self.state, view).column_after(self.state.sorting.get(view), steps)
            self._become(self.state.sorted_by(view, column))

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.value = self.state.needle
        box.display = True
        box.focus()

    def action_show_all(self) -> None:
        self._close_filter()
        self._become(self.state.filtered(""))

    def action_help(self) -> None:
        def closed(_: None) -> None:
            self.call_after_refresh(self._show)  # nothing was brought up to date below it

        self.push_screen(HelpScreen(), closed)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.display:
            self._become(self.state.filtered(event.value))

    def on_resize(self, _: Resize) -> None:
        self.call_after_refresh(self._show)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == self.state.view:
            self._show_detail()

    def _become(self, state: TopState) -> None:
        self.state = state
        self._show()

    def _close_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = False
        self._focus_view()

    def _show(self) -> None:
        """Bring everything on the screen up to the state."""
        if not self.query(Overview):
            return  # news from the server before there is a screen
        state = self.state
        self.query_one("#title", Static).update(title_line(state, self._url, self.size.width))
        self.query_one("#views", Static).update(_views_line(state.view))
        notice = notice_line(state, self._clock())
        line = self.query_one("#notice", Static)
        line.display = notice is not None
        line.update(notice or "")
        switcher = self.query_one("#content", ContentSwitcher)
        if switcher.current != state.view:
            switcher.current = state.view
            self._focus_view()
        self.query_one(Overview).show(state)
        if state.view in GRIDS:
            self.query_one(f"#{state.view}", GridTable).show(grid_of(state, state.view))
        self._show_detail()

    def _show_detail(self) -> None:
        line = self.query_one("#detail", Static)
        line.display = self.state.view in GRIDS
        if line.display:
            line.update(Text(self.query_one(f"#{self.state.view}", GridTable).detail))

    def _focus_view(self) -> None:
        view = self.state.view
        self.set_focus(self.query_one(f"#{view}", GridTable) if view in GRIDS else None)


def _views_line(current: str) -> str:
    """The views, each of which can be clicked at too."""
    names = []
    for number, view in enumerate(VIEWS, 1):
        style = "bold reverse" if view == current else "dim"
        names.append(f"[@click=app.view('{view}')][{style}] {number} {view.capitalize()} [/][/]")
    return " ".join(names)
