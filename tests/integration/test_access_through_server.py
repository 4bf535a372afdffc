"""Keys, tenants and limits of a running server, over keys that the command line made and tenants of a TOML file."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.http_answers import CHAT, HELLO, PROMPT, Answer, ask, metrics
from tests.integration.made_keys import MadeKey, keys_command, make_keys
from tests.integration.processes import EngineProcess, FrontEnd, clean_environ, eventually, fake_engine, front_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

REVOKED_SECONDS = 3.0
SHORT: dict[str, Any] = HELLO | {"max_tokens": 1}
MESSAGES = "/v1/messages"
SUMMARY = "/v1/energy/summary"

TENANTS = """
[tenants.ops]
is_admin = true

[tenants.open]

[tenants.few]
requests_per_minute = 3
models = ["fake"]

[tenants.short]
tokens_per_minute = 40

[tenants.narrow]
concurrent_requests = 1

[tenants.changing]
requests_per_minute = 100
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A server of the models `fake` and `other`, with a key for each tenant of its file."""

    engine: EngineProcess
    server: FrontEnd
    config: Path
    ledger_url: str
    keys: dict[str, MadeKey]
    client: aiohttp.ClientSession

    async def ask(self, tenant: str, target: str = CHAT, body: object = SHORT) -> Answer:
        method = "GET" if body is None else "POST"
        return await ask(self.client, target, body, method=method, headers=self.keys[tenant].bearer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("access")
    config = folder / "wattline.toml"
    config.write_text(TENANTS)
    url = f"sqlite:///{folder / 'ledger.db'}"
    keys = await make_keys(url, "leaving", "ops", "open", "few", "short", "narrow", "changing")
    async with (
        fake_engine(folder) as engine,
        fake_engine(folder, "--model", "other") as other,
        front_end(folder, engine.url, other.url, config=config, ledger_url=url) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        yield Served(engine, server, config, url, keys, client)


async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same_401(served: Served) -> None:
    key = served.keys["open"]
    other_secret = key.token[:-1] + ("A" if key.token[-1] != "A" else "B")
    unknown = key.token.replace(key.key_id, "0" * len(key.key_id))
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {key.token}"},
        {"Authorization": "Bearer sk-other"},
        {"Authorization": f"Bearer {other_secret}"},
        {"Authorization": f"Bearer {unknown}"},
        {"x-api-key": other_secret},
    ]
    targets: list[tuple[str, object]] = [
        (CHAT, SHORT),
        (MESSAGES, SHORT),
        (CHAT, b"{"),
        ("/v1/files/one", None),
        ("/v1/models", None),
        ("/v1/models/fake", None),
        ("/v1/scheduler", None),
        ("/metrics", None),
        ("/v1/energy/live", None),
        (SUMMARY, None),
        ("/v1/energy/requests/one", None),
    ]
    told = set()
    for target, body in targets:
        for headers in wrong:
            answer = await ask(served.client, target, body, method="GET" if body is None else "POST", headers=headers)
            error = answer.error()
            assert (answer.status, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert not [name for name in answer.headers if name.lower().startswith("x-ratelimit")]
            told.add(answer.body)
    assert len(told) == 1
    page = await metrics(served.client, served.keys["ops"].bearer)
    assert page.total("wattline_invalid_keys_total") == len(targets) * len(wrong)
    assert page.total("wattline_requests_total", outcome="refused") == 0


async def test_a_model_that_is_not_the_tenants_is_403_whether_it_exists_or_not(served: Served) -> None:
    for model in ("other", "never-heard-of"):
        answer = await served.ask("few", body=SHORT | {"model": model})
        error = answer.error()
        assert (answer.status, error["type"], error["code"]) == (403, "permission_error", "model_not_allowed")
        assert error["param"] == "model"
        assert error["message"] == f"model: {model!r} is not open to this key's tenant"


async def test_what_does_not_exist_is_404(served: Served) -> None:
    unknown = await served.ask("open", body=SHORT | {"model": "never-heard-of"})
    assert (unknown.status, unknown.error()["code"], unknown.error()["param"]) == (404, "model_not_found", "model")
    for target, code in (
        ("/v1/models/never-heard-of", "model_not_found"),
        ("/nothing", "not_found"),
        ("/v1/energy/requests/none", "request_not_found"),
    ):
        answer = await served.ask("open", target, None)
        assert (answer.status, answer.error()["code"]) == (404, code)


async def test_requests_per_minute_are_told_and_kept(served: Served) -> None:
    answers = [await served.ask("few") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["3"] * 4
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert all(0 < float(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 120 for answer in answers)
    error = answers[-1].error()
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 120
    assert "x-should-retry" not in answers[-1].headers
    assert "x-ratelimit-limit-tokens" not in answers[0].headers


async def test_tokens_per_minute_are_told_and_kept(served: Served) -> None:
    first = await served.ask("short", "/v1/completions", PROMPT | {"max_tokens": 38})
    assert (first.status, first.headers["x-ratelimit-limit-tokens"]) == (200, "40")
    assert first.json()["usage"]["total_tokens"] == 40
    refused = await served.ask("short")
    assert (refused.status, refused.error()["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
    assert int(refused.headers["Retry-After"]) >= 1
    assert "x-should-retry" not in refused.headers
    larger = await served.ask("short", "/v1/completions", PROMPT | {"prompt": "x" * 400})
    assert (larger.status, larger.headers["x-should-retry"]) == (429, "false")


async def test_concurrent_requests_are_kept_and_places_come_back(served: Served) -> None:
    running = asyncio.create_task(served.ask("narrow", body=HELLO | {"fake_hang": True}))
    await eventually(lambda: served.engine.runs(1))
    refused = await served.ask("narrow")
    assert (refused.status, refused.error()["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["Retry-After"] == "1"
    assert (await served.ask("open")).status == 200, "others have places of their own"
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    async def is_free() -> bool:
        return (await served.ask("narrow")).status == 200

    await eventually(is_free)


async def test_anthropics_header_is_as_good(served: Served) -> None:
    headers = {"x-api-key": served.keys["open"].token, "anthropic-version": "2023-06-01"}
    assert (await ask(served.client, MESSAGES, SHORT, headers=headers)).status == 200
    both = headers | {"Authorization": "Bearer sk-other"}
    assert (await ask(served.client, MESSAGES, SHORT, headers=both)).status == 401, "the bearer token counts"


async def test_a_revoked_key_is_refused_within_three_seconds(served: Served) -> None:
    assert (await served.ask("leaving")).status == 200
    await keys_command("revoke", served.keys["leaving"].key_id, url=served.ledger_url)
    revoked_at_seconds = time.monotonic()

    async def is_refused() -> bool:
        return (await served.ask("leaving", "/v1/models", None)).status == 401

    await eventually(is_refused)
    assert time.monotonic() - revoked_at_seconds < REVOKED_SECONDS
    assert (await served.ask("leaving")).status == 401


async def test_sighup_takes_up_changed_limits(served: Served) -> None:
    assert (await served.ask("changing")).headers["x-ratelimit-limit-requests"] == "100"
    served.config.write_text(TENANTS.replace("requests_per_minute = 100", "requests_per_minute = 2"))
    served.server.process.send_signal(signal.SIGHUP)

    async def is_taken_up() -> bool:
        return "reload: tenants changed: changing" in served.server.output()

    await eventually(is_taken_up)
    answers = [await served.ask("changing") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429], "what was counted stays counted"
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2"


async def test_models_are_those_a_tenant_may_use(served: Served) -> None:
    async def listed(tenant: str) -> set[str]:
        return {model["id"] for model in (await served.ask(tenant, "/v1/models", None)).json()["data"]}

    assert await listed("open") == {"fake", "other"}
    assert await listed("few") == {"fake"}
    assert (await served.ask("few", "/v1/models/fake", None)).status == 200
    hidden = await served.ask("few", "/v1/models/other", None)
    assert (hidden.status, hidden.error()["code"]) == (404, "model_not_found")


async def test_the_scheduler_is_for_administrators(served: Served) -> None:
    refused = await served.ask("open", "/v1/scheduler", None)
    assert (refused.status, refused.error()["code"]) == (403, "admin_required")
    assert (await served.ask("ops", "/v1/scheduler", None)).json()["object"] == "scheduler"


async def test_energy_is_shown_to_its_own_tenant(served: Served) -> None:
    assert (await served.ask("open")).status == 200
    assert (await served.ask("ops")).status == 200

    async def seen_by(tenant: str) -> set[str]:
        groups = (await served.ask(tenant, f"{SUMMARY}?by=tenant", None)).json()["groups"]
        return {group["tenant"] for group in groups}

    assert await seen_by("open") == {"open"}
    assert {"ops", "open"} <= await seen_by("ops")
    other = await served.ask("open", f"{SUMMARY}?tenant=ops", None)
    assert (other.status, other.error()["code"]) == (403, "tenant_not_allowed")
    mine = (await served.ask("ops")).headers["X-Request-Id"]
    assert (await served.ask("ops", f"/v1/energy/requests/{mine}", None)).json()["tenant"] == "ops"
    assert (await served.ask("open", f"/v1/energy/requests/{mine}", None)).status == 404


async def test_without_a_key_only_this_machine_is_listened_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server", "serve", "--host", "0.0.0.0", "--port", "0", "--worker-url", "unix:/no"]
    environ = clean_environ() | {"WATTLINE_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=50, env=environ, check=False
    )
    assert ended.returncode == 2
    (line,) = (ended.stdout + ended.stderr).splitlines()
    assert "host = '0.0.0.0': without a key" in line
    assert "--insecure" in line


async def test_insecure_listens_and_warns(served: Served, tmp_path: Path) -> None:
    async with front_end(tmp_path, served.engine.url, host="0.0.0.0", insecure=True) as server:
        assert "there are no keys: anyone may send requests" in server.output()
        async with aiohttp.ClientSession(server.url) as client:
            assert (await ask(client, CHAT, SHORT)).status == 200
