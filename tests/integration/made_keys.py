"""Keys as an operator makes and ends them: with the command."""

import asyncio
import contextlib
import io
import json
import sys
from dataclasses import dataclass

from server.cli_keys import keys_app
from tests.integration.processes import clean_environ


@dataclass(frozen=True, slots=True)
class MadeKey:
    """What `wattline keys create` printed."""

    key_id: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def make_keys(ledger_url: str, *tenants: str) -> dict[str, MadeKey]:
    """One key for each of these tenants.

    The first is made as an operator does, in a process. The others are made by the same command in this one: a process
    takes longer to import it than a test may last.
    """
    arguments = {name: ("create", "--tenant", name, "--name", "a test", "--json") for name in tenants}
    first, *others = tenants
    printed = {first: await keys_command(*arguments[first], url=ledger_url)}
    for name in others:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            keys_app(args=[*arguments[name], "--ledger", ledger_url], prog_name="wattline keys", standalone_mode=False)
        printed[name] = said.getvalue().encode()
    return {name: _made_key(text) for name, text in printed.items()}


def _made_key(printed: bytes) -> MadeKey:
    made = json.loads(printed)
    return MadeKey(made["key_id"], made["key"])


async def keys_command(*arguments: str, url: str) -> bytes:
    """`wattline keys`, which must succeed; returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "keys", *arguments, "--ledger", url),
        stdout=asyncio.subprocess.PIPE,
        env=clean_environ(),
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed
