"""Requests made from our own OpenAPI description, well-formed and not: no failure, no hang, nothing left behind."""

import asyncio
from pathlib import Path

# Loaded here, on the main thread: Python 3.11 may fail to compile a module while two threads do (gh-106905).
import schemathesis.specs.openapi.schemas  # noqa: F401

from bench.fuzz.openapi import description_of, fuzz_openapi
from bench.fuzz.raw import Target, leftovers
from tests.integration.processes import fake_engine, front_end

_REQUESTS = 300
_SEED = 1  # `python -m bench.fuzz openapi` takes others, and more requests


async def test_requests_by_our_description_get_answers_in_its_terms(tmp_path: Path) -> None:
    async with (
        fake_engine(tmp_path, "--max-model-len", "512") as engine,
        front_end(tmp_path, engine.url, max_body_bytes=1_000_000, flex_wait_seconds=0) as server,
    ):
        description = await asyncio.to_thread(description_of, server.url, {})
        fuzz = await asyncio.to_thread(fuzz_openapi, server.url, description, _REQUESTS, _SEED)
        assert not fuzz.faults, f"seed {_SEED}\n" + "\n".join(fuzz.faults)
        assert fuzz.requests == _REQUESTS
        assert await leftovers(Target(int(server.url.rpartition(":")[2]), engine.url)) == []
