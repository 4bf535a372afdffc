"""How the Wattline under test is set up: as an operator would who exposes it to others, with everything on.

What the fake engine reports is metered anyway. A front end of an older version has fewer things to switch on; what
was on is told with the results.
"""

from dataclasses import dataclass
from pathlib import Path

from bench.overhead.settings import OverheadSettings


@dataclass(frozen=True, slots=True)
class Production:
    """A configuration file, further arguments, the header lines that callers must send, and what is on."""

    config: Path
    arguments: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    switched_on: tuple[str, ...] = ()


def production(folder: Path, settings: OverheadSettings, tokens_per_second: float | None) -> Production:
    """Writes what the front end needs into `folder`. `tokens_per_second` are those of each held stream, if any."""
    config = folder / "wattline.toml"
    config.write_text("\n".join(_lines(settings, tokens_per_second)) + "\n")
    return Production(config, switched_on=("metering",))


def _lines(settings: OverheadSettings, tokens_per_second: float | None) -> list[str]:
    lines = ['log_level = "warning"']
    if tokens_per_second is not None:
        lines.append(f"max_running_requests = {settings.held.streams + settings.connections}")
        # The engine is slow on purpose, and the scheduler not to take it for one that is overloaded.
        lines.append(f"slo_tpot_seconds = {2 / tokens_per_second}")
    return lines
