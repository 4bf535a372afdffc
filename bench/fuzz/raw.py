"""The raw-socket fuzz: many hostile conversations at once, while a probe goes on asking as a decent caller does.

A server passes if no answer is a failure of its own, if the probe is always answered, and if nothing is left behind
once the callers have left: no connection, no request in a queue, none in the engine.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.fuzz.attacks import make_attack
from bench.fuzz.conversation import converse

_SLOW_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 20.0
_SETTLE_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.05
_MOST_FAULTS: Final = 20
_ESTABLISHED, _CLOSE_WAIT = "01", "08"  # of proc_net_tcp(5), linux/tcp_states.h
_CHAT: Final = {"model": "fake", "messages": [{"role": "user", "content": "probe"}], "max_tokens": 1}


@dataclass(frozen=True, slots=True)
class Target:
    """A server on loopback and what its callers must send; `engine_url` is the fake engine's behind it."""

    port: int
    engine_url: str
    headers: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def header_fields(self) -> dict[str, str]:
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in self.headers)}


@dataclass(slots=True)
class RawFuzz:
    """What happened. `faults` begin with the seed that brings the attack back."""

    attacks: Counter[str] = field(default_factory=Counter)
    probes: int = 0
    slow_probes: int = 0
    slowest_probe_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def most_slow_probes(self) -> int:
        """One in a hundred may be slow: the probe's 99th percentile is within the second."""
        return max(self.probes // 100, 1)

    def as_json(self) -> dict[str, Any]:
        return {
            "attacks": dict(self.attacks),
            "probes": self.probes,
            "slow_probes": self.slow_probes,
            "slowest_probe_seconds": self.slowest_probe_seconds,
        }

    def problems(self) -> list[str]:
        """Everything that a server must answer for."""
        slow = f"{self.slow_probes} of {self.probes} probes took over {_SLOW_SECONDS:.0f} s"
        return self.faults + ([slow] if self.slow_probes > self.most_slow_probes else [])


async def fuzz_raw(target: Target, seed: int, attacks: int, at_once: int = 8) -> RawFuzz:
    """Carries out that many attacks, `at_once` of them at any time."""
    fuzz = RawFuzz()
    left = iter(range(attacks))
    stopping = asyncio.Event()
    probing = asyncio.create_task(_probe(target, fuzz, stopping))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(_attack(target, fuzz, seed, left))
    finally:
        stopping.set()
        await asyncio.gather(probing, return_exceptions=True)
    fuzz.faults += await leftovers(target)
    return fuzz


async def _attack(target: Target, fuzz: RawFuzz, seed: int, left: Any) -> None:  # noqa: ANN401  # an iterator shared
    for number in left:
        name = f"{seed}.{number}"
        attack = make_attack(name, target.headers)
        fuzz.attacks[attack.kind] += 1
        try:
            faults: Sequence[str] = await converse(target.port, attack)
        except (OSError, TimeoutError) as error:
            faults = [f"{type(error).__name__}: {error}"]
        if len(fuzz.faults) < _MOST_FAULTS:
            fuzz.faults += [f"seed {name}, {attack.kind}: {fault}" for fault in faults]


async def _probe(target: Target, fuzz: RawFuzz, stopping: asyncio.Event) -> None:
    timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
    async with aiohttp.ClientSession(target.url, headers=target.header_fields, timeout=timeout) as client:
        while not stopping.is_set():
            started_at_seconds = time.monotonic()
            try:
                async with client.post("/v1/chat/completions", json=_CHAT) as response:
                    body = await response.read()
                    if response.status != 200:
                        fuzz.faults.append(f"a probe was answered with {response.status}: {body[:200]!r}")
            except (aiohttp.ClientError, TimeoutError) as error:
                fuzz.faults.append(f"a probe was not answered: {type(error).__name__}: {error}")
            seconds = time.monotonic() - started_at_seconds
            fuzz.probes += 1
            fuzz.slow_probes += seconds > _SLOW_SECONDS
            fuzz.slowest_probe_seconds = max(fuzz.slowest_probe_seconds, seconds)
            await asyncio.sleep(0.01)


async def leftovers(target: Target) -> list[str]:
    """What is still there some seconds after all callers have left: connections, queued and running requests."""
    deadline_seconds = time.monotonic() + _SETTLE_SECONDS
    while True:
        left = _open_connections(target.port)
        found = [f"{left} connections are still open"] if left else []
        found += await _requests_left(target)
        if not found or time.monotonic() >= deadline_seconds:
            return found
        await asyncio.sleep(_POLL_SECONDS)


async def _requests_left(target: Target) -> list[str]:
    timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
    found = []
    # A connection of our own would be one that is left.
    async with aiohttp.ClientSession(target.url, headers=target.header_fields, timeout=timeout) as client:
        async with client.get("/v1/scheduler") as response:
            state = json.loads(await response.read())
        queued = sum(state["queued_requests_by_tier"].values())
        running = state["running_requests"]
        if queued or running:
            found.append(f"the scheduler has {queued} requests queued and {running} running")
    is_socket = target.engine_url.startswith("unix:")
    connector = aiohttp.UnixConnector(target.engine_url.removeprefix("unix:")) if is_socket else None
    base = "http://engine" if is_socket else target.engine_url
    async with aiohttp.ClientSession(base, connector=connector, timeout=timeout) as client:
        async with client.get("/energy") as response:
            in_engine = json.loads(await response.read())["running_requests"]
        if in_engine:
            found.append(f"the engine runs {in_engine} requests")
    return found


def _open_connections(port: int, proc: Path = Path("/proc")) -> int:
    """Connections that somebody on this machine has with a server's port and has not closed, at the server's end."""
    count = 0
    for line in (proc / "net" / "tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        count += local.endswith(f":{port:04X}") and state in {_ESTABLISHED, _CLOSE_WAIT}
    return count
