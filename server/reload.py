"""Takes up a changed configuration while the server runs, as far as it can be: tenants, limits, certificates.

The file is read whole before anything changes. One that is wrong changes nothing.
"""

import logging
from collections.abc import Callable, Sequence

from server.errors import WattlineError
from server.settings import Settings

logger = logging.getLogger("wattline.server")

ReloadHook = Callable[[Settings], str]
"""Takes up its part of the settings and tells in a few words what has changed, or "" where nothing has.

What it raises as a WattlineError is the operator's to mend, and leaves its part as it was.
"""


class Reloader:
    """`read` gives the settings as they are written now; `hooked` names those that the hooks take up."""

    def __init__(
        self, running: Settings, read: Callable[[], Settings], hooks: Sequence[ReloadHook], hooked: frozenset[str]
    ) -> None:
        self._running = running
        self._read = read
        self._hooks = hooks
        self._hooked = hooked

    def reload(self) -> None:
        """Read again and tell every hook. What comes of it is logged, never raised."""
        try:
            found = self._read()
        except WattlineError as error:
            logger.error("reload: %s; everything stays as it was", error)  # noqa: TRY400  # one line, it says all
            return
        changes = []
        for hook in self._hooks:
            try:
                changes.append(hook(found))
            except WattlineError as error:
                logger.error("reload: %s; that stays as it was", error)  # noqa: TRY400
        logger.info("reload: %s", "; ".join(change for change in changes if change) or "nothing to take up")
        if waiting := self._waiting_for_restart(found):
            logger.warning("reload: changed, but only a restart takes them up: %s", ", ".join(waiting))

    def _waiting_for_restart(self, found: Settings) -> list[str]:
        names = type(self._running).model_fields.keys() - self._hooked
        return sorted(name for name in names if getattr(self._running, name) != getattr(found, name))
