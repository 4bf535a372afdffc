"""The front end dies without a chance to clean up."""

import shutil
import time

import httpx
import pytest

from tests.e2e.conftest import StartServer
from tests.e2e.figures import show
from tests.e2e.process_tree import alive, wait_until_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GONE_SECONDS = 15.0


def test_no_engine_process_outlives_a_killed_front_end(start_server: StartServer) -> None:
    server = start_server()
    server.wait_ready()
    body = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: {")
        tree, engines = server.tree(), server.engines()
        assert len(alive(tree)) >= 4  # front end, guardian, API server, engine core
        started = time.monotonic()
        server.kill()
        left = wait_until_gone(tree, GONE_SECONDS)
    for engine in engines:  # nobody is left to remove them
        shutil.rmtree(engine.socket_path.parent, ignore_errors=True)
    show(f"all {len(tree)} processes gone {time.monotonic() - started:.1f} s after SIGKILL in mid-generation")
    assert not left
