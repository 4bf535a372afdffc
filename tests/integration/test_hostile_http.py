"""Raw bytes on the wire: heads without end, upgrades nobody asked us to understand, reports that are none."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import FrontEnd, fake_engine, front_end


async def exchange(server: FrontEnd, *packets: bytes) -> bytes:
    """Send packets one after the other; everything that comes back within two seconds of the last."""
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for packet in packets:
            writer.write(packet)
            await writer.drain()
            await asyncio.sleep(0.05)
        answer = b""
        try:
            async with asyncio.timeout(2):
                while chunk := await reader.read(65536):
                    answer += chunk
        except TimeoutError:
            pass
        return answer
    finally:
        writer.close()


def post(body: bytes, *headers: bytes) -> bytes:
    head = [b"POST /v1/chat/completions HTTP/1.1", b"Host: x", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", b""])


async def test_an_offer_of_http2_is_overlooked_and_the_request_served(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine, front_end(tmp_path, engine.url) as server:
        body = json.dumps(HELLO).encode()
        offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
        for packets in ((post(body, *offer) + body,), (post(body, *offer), body)):
            answer = await exchange(server, *packets)
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
            assert b'"energy":{' in answer


async def test_a_body_after_an_upgrade_is_never_read_as_a_request(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine, front_end(tmp_path, engine.url) as server:
        smuggled = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        head = post(smuggled, b"Connection: Upgrade", b"Upgrade: foo")
        for cut in (len(head), 30):  # a head in one piece, and one that is not
            answer = await exchange(server, head[:cut], head[cut:] + smuggled)
            assert b'"status":"ok"' not in answer
            assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine, front_end(tmp_path, engine.url) as server:
        endless = (b"GET /health HTTP/1.1\r\nX: ", *[b"a" * 16_384] * 4)  # a little too much, and no more
        answer = await exchange(server, *endless)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"request_head_too_large" in answer
        big = b" " * 200_000 + json.dumps(HELLO).encode()
        assert (await exchange(server, post(big) + big)).startswith(b"HTTP/1.1 200 "), "bodies are no heads"


@pytest.mark.parametrize(
    "report",
    [
        b'{"accounts_microjoules":{"cpu":{"idle":1e999}}}',
        b'{"running_requests":1e999}',
        b'{"power_watts":{"cpu":"abc"}}',
        b'{"accounts_microjoules":{"cpu":{"idle":-5}}}',
        b'{"source":null,"accounts_microjoules":{"\\ud800":{"idle":1}}}',
        b'{"source":"\\ud800"}',
        b'{"source":null,"reason":"\\ud800"}',
        b"[" * 100_000,
    ],
)
async def test_a_worker_that_reports_nonsense_takes_nobody_down(tmp_path: Path, report: bytes) -> None:
    good = b'{"source":"nvml","instance_id":"a","accounts_microjoules":{"gpu":{"idle":7000000}}}'
    answers = iter([good])

    async def serve(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"data": [{"id": "m"}, {"id": "\x1b[2J"}, {"id": "b", "created": float("nan")}]})
        return web.Response(body=next(answers, report), content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with front_end(tmp_path, url) as server, aiohttp.ClientSession(server.url) as client:
            for _ in range(3):
                for path in ("/metrics", "/v1/energy/live", "/v1/models"):
                    page: Any = await ask(client, path, method="GET")
                    assert page.status == 200, path
                await asyncio.sleep(0.3)
            assert [model["id"] for model in json.loads(page.body)["data"]] == ["m"]
            assert (await ask(client, "/health", method="GET")).status == 200
    finally:
        await runner.cleanup()


async def test_while_attached_workers_start_a_request_is_told_to_come_back(tmp_path: Path) -> None:
    async with (
        front_end(tmp_path, f"unix:{tmp_path}/nobody.sock", wait_ready=False) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        answer = await ask(client, CHAT, HELLO)
        assert (answer.status, answer.error()["code"]) == (503, "no_worker")
        assert int(answer.headers["Retry-After"]) >= 1
