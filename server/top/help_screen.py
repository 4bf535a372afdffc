"""What the keys do, over whatever is on the screen."""

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

_TEXT: Final = """\
[b]wattline top[/b]

[b]1[/b] … [b]4[/b], [b]Tab[/b], [b]Shift+Tab[/b]   overview, workers, requests, tenants
[b]↑ ↓ PgUp PgDn[/b]          go through a table; below it stands what there is to say of the row
[b]s[/b], [b]S[/b]                   sort by the next column, by the one before
[b]/[/b]                      show only rows with these words; Escape shows all
[b]p[/b]                      pause, and go on
[b]?[/b]                      this page
[b]q[/b], [b]Ctrl+C[/b]              quit

Joules are the server's own: [b]measured[/b] where hardware counters are read, else estimated.
[b]?[/b] in a table is a quantity that is not known; it is never shown as 0.
The totals count since this start of the server: wattline report has those from before."""


class HelpScreen(ModalScreen[None]):
    """Goes away with any of its keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter,space", "dismiss", "Close", show=False),
    ]

    def compose(self) -> ComposeResult:
        yield Static(_TEXT, id="help")
