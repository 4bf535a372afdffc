"""What the console script runs: an interrupt while everything is still being imported is no error worth a traceback.

Importing is what takes the time, so a command that needs little of it comes by a way of its own.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        if sys.argv[1:2] == ["top"]:
            from server.cli_top import main as command_line  # noqa: PLC0415  # see above
        else:
            from server.cli import main as command_line  # noqa: PLC0415  # see above
        command_line()
    except KeyboardInterrupt:
        sys.exit(130)
