"""How the Wattline under test is set up: as an operator would who exposes it to others, with everything on.

What the fake engine reports is metered anyway. A front end of an older version has fewer things to switch on; what
was on is told with the results.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import PROJECT_FOLDER, ChildFailedError
from bench.overhead.settings import OverheadSettings

_TENANT: Final = "benchmark"
_KEY_SECONDS: Final = 60.0
# All kinds of limits, none of which is met: what is measured is the counting. The state of the scheduler is an
# administrator's to see, and whoever fuzzes looks at it.
_LIMITS: Final = (
    f"[tenants.{_TENANT}]",
    "requests_per_minute = 1000000000",
    "tokens_per_minute = 1000000000000",
    "concurrent_requests = 1000000",
    "energy_joules_per_day = 1e9",
    "energy_joules_per_month = 1e9",
    "is_admin = true",
)


@dataclass(frozen=True, slots=True)
class Production:
    """A configuration file, further arguments, the header lines that callers must send, and what is on."""

    config: Path
    arguments: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    switched_on: tuple[str, ...] = ()


def production(folder: Path, settings: OverheadSettings, tokens_per_second: float | None) -> Production:
    """Writes what the front end needs into `folder`. `tokens_per_second` are those of each held stream, if any.

    Raises:
        ChildFailedError: no key could be made.
    """
    config = folder / "wattline.toml"
    lines = _scheduling(settings, tokens_per_second)
    ledger_url = f"sqlite:///{folder / 'ledger.db'}"
    key = None if settings.bare else _new_key(ledger_url)
    if key is None:
        lines += ['ledger_url = "none"'] if settings.bare else []
        config.write_text("\n".join(lines) + "\n")
        return Production(config, switched_on=("metering",))
    lines += [f'ledger_url = "{ledger_url}"', *_LIMITS]
    config.write_text("\n".join(lines) + "\n")
    return Production(
        config, headers=(f"Authorization: Bearer {key}",), switched_on=("metering", "keys", "limits", "ledger")
    )


def _scheduling(settings: OverheadSettings, tokens_per_second: float | None) -> list[str]:
    # Requests that may wait are not kept waiting: whoever fuzzes takes a long silence for a hang.
    lines = ['log_level = "warning"', "flex_wait_seconds = 0"]
    if tokens_per_second is not None:
        lines.append(f"max_running_requests = {settings.held.streams + settings.connections}")
        # The engine is slow on purpose, and the scheduler not to take it for one that is overloaded.
        lines.append(f"slo_tpot_seconds = {2 / tokens_per_second}")
    return lines


def _new_key(ledger_url: str) -> str | None:
    """A key of the tenant whose limits are counted; None where this version knows no keys."""
    command = [sys.executable, "-m", "server", "keys", "create", "--tenant", _TENANT, "--name", "overhead"]
    done = subprocess.run(
        [*command, "--ledger", ledger_url],
        capture_output=True,
        text=True,
        timeout=_KEY_SECONDS,
        check=False,
        cwd=PROJECT_FOLDER,
    )
    if done.returncode:
        if "No such command" in done.stderr:
            return None
        raise ChildFailedError(f"no key could be made: {done.stderr.strip()}")
    return done.stdout.strip()
