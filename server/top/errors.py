"""What can go wrong between this terminal and the server, split by who can mend it."""

from server.errors import CommandError, SettingError


class KeyRefusedError(SettingError):
    """The server wants a key, or another one."""


class NotWattlineError(SettingError):
    """Whatever answers at the URL is no Wattline, or not one that can be read."""


class SilentServerError(CommandError):
    """Nobody answers now; it may come back."""
