"""Hostile bytes on many connections at once: nobody else notices, and nothing is left of it."""

import random
from pathlib import Path

from bench.fuzz.raw import Target, fuzz_raw
from tests.integration.processes import fake_engine, front_end

_ATTACKS = 240


async def test_hostile_connections_disturb_nobody_and_leave_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    async with fake_engine(tmp_path) as engine, front_end(tmp_path, engine.url) as server:
        fuzz = await fuzz_raw(Target(int(server.url.rpartition(":")[2]), engine.url), seed, _ATTACKS)
        assert not fuzz.problems(), f"seed {seed}\n" + "\n".join(fuzz.problems())
        assert sum(fuzz.attacks.values()) == _ATTACKS
        assert fuzz.probes > 10
