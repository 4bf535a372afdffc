"""What the console script runs: an interrupt while everything is still being imported is no error worth a traceback."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from server.cli import main as command_line  # noqa: PLC0415  # the imports are what takes the time

        command_line()
    except KeyboardInterrupt:
        sys.exit(130)
