"""The dashboards there are, as the text of their files."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import fleet_energy, requests_tenants, scheduler_slos

FOLDER: Final = Path(__file__).parent / "dashboards"


def rendered() -> dict[str, str]:
    """Every dashboard's file by its name, always the same text for the same code."""
    boards = {
        "fleet-energy.json": fleet_energy.board(),
        "requests-tenants.json": requests_tenants.board(),
        "scheduler-slos.json": scheduler_slos.board(),
    }
    return {
        name: json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, board in boards.items()
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """The files that are not what the code says: missing, different, or left over from a dashboard of old."""
    wanted = rendered()
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> None:
    """Write every file, and remove what is left over."""
    wanted = rendered()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)
