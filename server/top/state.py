"""What the screen shows, and how news and keys change it: values in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from server.top.live_body import LiveBody, total_watts

VIEWS: Final = ("overview", "workers", "requests", "tenants")
# More than the widest terminal has columns.
_KEPT_SAMPLES: Final = 500


@dataclass(frozen=True, slots=True)
class TopState:
    """`shown` is on the screen; `latest` is newer while paused. `watts` has a sample for each answer or silence.

    `sorting` has a column's name for each view that is not in its own order. `lost_at_seconds` is since when nobody
    answers, on the clock that `now` comes from, and `cause` what is known of it.
    """

    shown: LiveBody | None = None
    latest: LiveBody | None = None
    watts: tuple[float | None, ...] = ()
    lost_at_seconds: float | None = None
    cause: str | None = None
    is_paused: bool = False
    view: str = VIEWS[0]
    needle: str = ""
    sorting: Mapping[str, str | None] = field(default_factory=dict)

    def received(self, body: LiveBody) -> "TopState":
        """The server has answered."""
        watts = (*self.watts, total_watts(body.power_watts))[-_KEPT_SAMPLES:]
        shown = self.shown if self.is_paused and self.shown is not None else body
        return replace(self, shown=shown, latest=body, watts=watts, lost_at_seconds=None, cause=None)

    def lost(self, cause: str, now: float) -> "TopState":
        """It has not. What it drew meanwhile is not known."""
        since = now if self.lost_at_seconds is None else self.lost_at_seconds
        watts = (*self.watts, None)[-_KEPT_SAMPLES:]
        return replace(self, watts=watts, lost_at_seconds=since, cause=cause)

    def paused(self) -> "TopState":
        """Hold what is shown, or take up what has come meanwhile."""
        return replace(self, is_paused=not self.is_paused, shown=self.latest if self.is_paused else self.shown)

    def viewing(self, view: str) -> "TopState":
        return replace(self, view=view)

    def stepped(self, steps: int) -> "TopState":
        """So many views on, round and round."""
        return replace(self, view=VIEWS[(VIEWS.index(self.view) + steps) % len(VIEWS)])

    def filtered(self, needle: str) -> "TopState":
        return replace(self, needle=needle.strip())

    def sorted_by(self, view: str, column: str | None) -> "TopState":
        return replace(self, sorting={**self.sorting, view: column})
