"""What callers write is nowhere afterwards on the real engine either, whose own logs are at their default level."""

import os
import tempfile
import time
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.figures import show
from tests.e2e.wattline_process import WattlineProcess
from tests.integration.canary import CANARY, HEADERS, ask_everything, bodies, chat, files_with
from tests.integration.http_answers import CHAT, ask

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "smollm2"
BROKEN_CALL = {"id": CANARY, "type": "function", "function": {"name": CANARY, "arguments": CANARY}}
# What the engine itself refuses, some of it in the midst of its work.
REFUSED_BY_THE_ENGINE = (
    chat(MODEL, messages=[{"role": "assistant", "content": None, "tool_calls": [BROKEN_CALL]}]),
    chat(MODEL, messages=[{"role": "user", "content": [{"type": CANARY, CANARY: CANARY}]}]),
    chat(MODEL, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": CANARY}}]}]),
    chat(MODEL, response_format={"type": "json_schema", "json_schema": {"name": CANARY, "schema": {"type": CANARY}}}),
    chat(MODEL, structured_outputs={"regex": f"({CANARY}"}),
    chat(MODEL, chat_template=f"{{{{ {CANARY}"),
    chat(MODEL, temperature=CANARY),
    chat(MODEL, logit_bias={CANARY: 1}),
    chat(MODEL, tool_choice={"type": "function", "function": {"name": f"no-{CANARY}"}}),
)


def folders(server: WattlineProcess) -> list[Path]:
    """Where the server and its engine keep what they keep."""
    home = Path.home()
    state, cache = os.environ.get("XDG_STATE_HOME"), os.environ.get("XDG_CACHE_HOME")
    kept = [Path(state or home / ".local" / "state"), Path(cache or home / ".cache"), home / ".config"]
    return [server.log_path.parent, *kept, Path(tempfile.gettempdir())]


async def test_a_canary_is_found_nowhere(server: WattlineProcess) -> None:
    began_at_unix_seconds = time.time() - 1.0  # file systems keep time more coarsely
    async with aiohttp.ClientSession(server.url) as client:
        answers = await ask_everything(client, MODEL)
        statuses = {path: answer.status for (path, _), answer in zip(bodies(MODEL), answers, strict=True)}
        show(f"status by route: {statuses}")
        assert {statuses[path] for path in (CHAT, "/v1/completions", "/v1/responses", "/v1/messages")} == {200}
        refused = [(await ask(client, CHAT, body, headers=HEADERS)).status for body in REFUSED_BY_THE_ENGINE]
        show(f"what the engine is to refuse: {refused}")
        own = await ask(client, CHAT, chat(MODEL))
        request_id = own.headers["X-Request-Id"]
        for target in ("/metrics", "/v1/scheduler", "/v1/energy/summary", f"/v1/energy/requests/{request_id}"):
            assert CANARY.encode() not in (await ask(client, target, method="GET")).body.lower(), target
    quoting = [line for line in server.log().splitlines() if CANARY in line.lower()]
    assert quoting == []
    since = {"changed_since_unix_seconds": began_at_unix_seconds}
    assert files_with(request_id, *folders(server), **since), "what is there is found"
    assert files_with(CANARY, *folders(server), **since) == []
