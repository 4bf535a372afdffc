"""Kills a server under load, again and again, and looks whether its ledger has every answer that a caller saw whole.

The engine is a fake one and outlives the server, so that a round takes no longer than the server takes to start. The
ledger is read straight from its database, not through the server.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy import create_engine, text

from bench.children import child, ended_by_sigterm, free_port

_MODEL: Final = "fake"
_MICROJOULES_PER_JOULE: Final = 1_000_000
_READY_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class DurabilitySettings:
    """`ledger_url` is a database that may be written to, `sqlite:///PATH` or `postgresql://…`."""

    ledger_url: str
    kills: int = 50
    connections: int = 16
    least_seconds: float = 0.05
    most_seconds: float = 1.0
    seed: int = 1


@dataclass(slots=True)
class DurabilityResult:
    """What callers saw, against what the ledger has.

    `missing` are answers seen whole that are not in it, `doubled` those in it more than once, `unequal` those with
    another energy than the caller was told. `integrity` is the database's own word.
    """

    settings: DurabilitySettings
    kills: int = 0
    answers_seen: int = 0
    rows: int = 0
    seen_microjoules: int = 0
    ledger_microjoules_of_seen: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    integrity: str = ""

    @property
    def is_durable(self) -> bool:
        agrees = self.seen_microjoules == self.ledger_microjoules_of_seen
        return agrees and not (self.missing or self.doubled or self.unequal) and self.integrity == "ok"

    def as_json(self) -> dict[str, Any]:
        """One object for programs."""
        return {**asdict(self), "is_durable": self.is_durable}


def run(settings: DurabilitySettings) -> DurabilityResult:
    """Start, load and kill the server `kills` times, then read the ledger."""
    chance = random.Random(settings.seed)
    seen: dict[str, int] = {}
    result = DurabilityResult(settings)
    with tempfile.TemporaryDirectory(prefix="wattline-durability-") as folder:
        socket_path = Path(folder) / "engine.sock"
        engine = [sys.executable, "-m", "workers.fake", "--uds", str(socket_path), "--die-with-parent"]
        engine += ["--decode-tokens-per-second", "200"]
        with child(engine, f"unix:{socket_path}", "/health", _READY_SECONDS):
            for number in range(settings.kills):
                after_seconds = chance.uniform(settings.least_seconds, settings.most_seconds)
                seen.update(_round(settings, socket_path, number, after_seconds))
                result.kills += 1
    _compare(result, seen)
    return result


def _round(settings: DurabilitySettings, socket_path: Path, number: int, after_seconds: float) -> dict[str, int]:
    """One life of the server. Returns the microjoules of every answer that was seen whole, by its request id."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), "--worker-url", f"unix:{socket_path}"]
    command += ["--ledger-url", settings.ledger_url]
    with child(command, url, "/ready", _READY_SECONDS) as pid:
        return asyncio.run(_load_and_kill(settings, url, pid, number, after_seconds))


async def _load_and_kill(
    settings: DurabilitySettings, url: str, pid: int, number: int, after_seconds: float
) -> dict[str, int]:
    seen: dict[str, int] = {}
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as client:
        callers = [
            asyncio.create_task(_call_on(client, url, f"kill-{number}-{connection}", connection, seen))
            for connection in range(settings.connections)
        ]
        await asyncio.sleep(after_seconds)
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*callers)
    return seen


async def _call_on(client: aiohttp.ClientSession, url: str, name: str, kind: int, seen: dict[str, int]) -> None:
    """Ask for one answer after another until the server is gone."""
    count = 0
    deadline = time.monotonic() + _ANSWER_SECONDS
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        while time.monotonic() < deadline:
            count += 1
            request_id = f"{name}-{count}"
            joules = await _ask(client, url, request_id, is_stream=bool(kind % 2), tokens=1 + (kind + count) % 7)
            if joules is not None:
                seen[request_id] = round(joules * _MICROJOULES_PER_JOULE)


async def _ask(
    client: aiohttp.ClientSession, url: str, request_id: str, *, is_stream: bool, tokens: int
) -> float | None:
    """The joules an answer told of that was seen to its end, None where it was not."""
    body = {"model": _MODEL, "prompt": "x", "max_tokens": tokens, "stream": is_stream}
    headers = {"X-Request-Id": request_id}
    async with client.post(f"{url}/v1/completions", json=body, headers=headers) as response:
        answer = await response.text()
        if response.status != 200:
            return None
    if not is_stream:
        whole: float | None = json.loads(answer)["energy"]["energy_joules"]
        return whole
    events = answer.split("\n\n")
    if events[-2:] != ["data: [DONE]", ""]:
        return None
    streamed: float | None = json.loads(events[-3].removeprefix(": energy "))["energy_joules"]
    return streamed


def _compare(result: DurabilityResult, seen: dict[str, int]) -> None:
    engine = create_engine(result.settings.ledger_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        kept: dict[str, list[int | None]] = {}
        for request_id, microjoules in connection.execute(
            text("SELECT request_id, energy_microjoules FROM requests WHERE request_id LIKE 'kill-%'")
        ):
            kept.setdefault(request_id, []).append(microjoules)
        result.integrity = _integrity(connection)
    engine.dispose()
    result.answers_seen, result.rows = len(seen), sum(map(len, kept.values()))
    result.seen_microjoules = sum(seen.values())
    result.ledger_microjoules_of_seen = sum(kept.get(name, [0])[0] or 0 for name in seen)
    result.missing = [name for name in seen if name not in kept]
    result.doubled = [name for name, amounts in kept.items() if len(amounts) > 1]
    result.unequal = [name for name, microjoules in seen.items() if name in kept and kept[name][0] != microjoules]


def _integrity(connection: Any) -> str:  # noqa: ANN401  # SQLAlchemy's connection
    """What the database's own checker says: SQLite's pragma, PostgreSQL's amcheck over heap and indexes."""
    if connection.dialect.name == "sqlite":
        return str(connection.execute(text("PRAGMA integrity_check")).scalar())
    connection.execute(text("CREATE EXTENSION IF NOT EXISTS amcheck"))
    faults = connection.execute(text("SELECT count(*) FROM verify_heapam('requests')")).scalar()
    connection.execute(
        text("SELECT bt_index_check(indexrelid, true) FROM pg_index WHERE indrelid = 'requests'::regclass")
    )  # raises where an index is broken
    return "ok" if faults == 0 else f"{faults} faults in the heap"


def _table(result: DurabilityResult) -> str:
    rows = [
        ("server killed", f"{result.kills} times"),
        ("answers seen whole", f"{result.answers_seen}"),
        ("of them missing, doubled, unequal", f"{len(result.missing)}, {len(result.doubled)}, {len(result.unequal)}"),
        ("their energy as told", f"{result.seen_microjoules / _MICROJOULES_PER_JOULE:.6f} J"),
        ("their energy in the ledger", f"{result.ledger_microjoules_of_seen / _MICROJOULES_PER_JOULE:.6f} J"),
        ("rows in all, cut-off requests included", f"{result.rows}"),
        ("the database's integrity check", result.integrity),
    ]
    return "\n".join(f"{what:<42}{value}" for what, value in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="wattline bench durability", description=__doc__)
    parser.add_argument("--ledger-url", required=True, help="sqlite:///PATH or postgresql://…")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with ended_by_sigterm():
        result = run(DurabilitySettings(options.ledger_url, kills=options.kills, seed=options.seed))
    print(json.dumps(result.as_json()) if options.json else _table(result))
    if not result.is_durable:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
