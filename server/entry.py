"""What the console script runs: an interrupt while everything is still being imported is no error worth a traceback.

Importing is what takes the time, so a command that needs little of it comes by a way of its own.
"""

import io
import os
import sys


def main() -> None:
    """Run the command line."""
    _open_what_is_closed()
    _escape_what_has_no_code()
    try:
        if sys.argv[1:2] == ["top"]:
            from server.cli_top import main as command_line  # noqa: PLC0415  # see above
        else:
            from server.cli import main as command_line  # noqa: PLC0415  # see above
        command_line()
    except KeyboardInterrupt:
        sys.exit(130)


def _open_what_is_closed() -> None:
    """Where we were started with an input or output closed, nothing is read or written there.

    Otherwise the next file or socket would take its number, and our engines would write into that.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.dup2(descriptor, number)
            if descriptor != number:
                os.close(descriptor)
            os.set_inheritable(number, True)  # noqa: FBT003  # the os module's signature
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _escape_what_has_no_code() -> None:
    """In an encoding that is not Unicode's our output loses a character, not the command its way."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
