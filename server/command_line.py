"""Runs a command and ends the process. Whatever goes wrong is one line on stderr, never a traceback.

Exit code 2 is for what the operator got wrong, 1 for what failed. Light to import: some commands must start at once.
"""

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import typer

from metering.errors import MeteringError
from server.errors import CommandError, ModelFetchError, WattlineError
from server.printable import printable

USAGE_ERROR: Final = 2
FAILURE: Final = 1
_INTERRUPTED: Final = 130
_LAYOUT: Final = "\n\t"


def run_command_line(app: typer.Typer, arguments: Sequence[str], engine_args: Sequence[str] = ()) -> NoReturn:
    """Run the command that `arguments` name. `engine_args` are passed to it beside."""
    try:
        code = app(args=list(arguments), prog_name=app.info.name, standalone_mode=False, obj=list(engine_args))
    except (ModelFetchError, CommandError) as error:
        fail(str(error), FAILURE)
    except (WattlineError, MeteringError) as error:
        fail(str(error), USAGE_ERROR)
    except typer.TyperException as error:
        message = _one_line(error)
        if "\n" in message:  # the whole help, where no command was named
            sys.stderr.write(f"{message}\n")
            sys.exit(USAGE_ERROR)
        fail(message, USAGE_ERROR)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(_INTERRUPTED)
    except OSError as error:  # what the command prints cannot be written, say
        fail(str(error), FAILURE)
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong, and end. The message may quote what a server, an engine or a file says."""
    sys.stderr.write(f"wattline: error: {printable(message, kept=_LAYOUT)}\n")
    sys.exit(code)


def _one_line(error: typer.TyperException) -> str:
    """Typer's usage errors know better than `str` how to say what is wrong."""
    format_message = getattr(error, "format_message", None)
    return str(format_message() if format_message is not None else error)
