"""HTTPS with certificates made here: both kinds of HTTP client, streams, callers' certificates, renewal."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import pytest
import pytest_asyncio

from tests.certificates import Authority, Pair
from tests.integration.http_answers import CHAT, HELLO, ask
from tests.integration.processes import EngineProcess, FrontEnd, eventually, front_end

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Secured:
    server: FrontEnd
    authority: Authority
    pair: Pair

    def client(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self.authority.trusting())
        return aiohttp.ClientSession(self.server.url, connector=connector)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(engine: EngineProcess, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    pair = authority.issue("server", b"s3cr3t-password")
    async with front_end(
        folder,
        engine.url,
        tls=authority.trusting(),
        ssl_certfile=pair.certfile,
        ssl_keyfile=pair.keyfile,
        ssl_keyfile_password="s3cr3t-password",
    ) as server:
        assert server.url.startswith("https://")
        yield Secured(server, authority, pair)
        assert "s3cr3t" not in server.output()


async def test_answers_and_streams_with_aiohttp(secured: Secured) -> None:
    async with secured.client() as client:
        whole = await ask(client, CHAT, HELLO | {"max_tokens": 5})
        assert (whole.status, whole.energy()["output_tokens"]) == (200, 5)
        streamed = await ask(client, CHAT, HELLO | {"max_tokens": 20, "stream": True})
        assert streamed.energy()["output_tokens"] == 20
        assert (await ask(client, CHAT, b"{")).status == 400


async def test_answers_and_streams_with_httpx(secured: Secured) -> None:
    async with httpx.AsyncClient(base_url=secured.server.url, verify=secured.authority.trusting()) as client:
        whole = await client.post(CHAT, json=HELLO | {"max_tokens": 5})
        assert whole.json()["energy"]["output_tokens"] == 5
        async with client.stream("POST", CHAT, json=HELLO | {"max_tokens": 20, "stream": True}) as response:
            version = response.extensions["network_stream"].get_extra_info("ssl_object").version()
            lines = [line async for line in response.aiter_lines()]
        assert version == "TLSv1.3"
        assert lines[-2] == "data: [DONE]"
        (energy,) = (line for line in lines if line.startswith(": energy "))
        assert json.loads(energy.removeprefix(": energy "))["output_tokens"] == 20


async def test_bodies_larger_than_a_record_come_whole(secured: Secured) -> None:
    padding = b" " * 300_000
    async with secured.client() as client:
        answer = await ask(client, CHAT, padding + json.dumps(HELLO | {"max_tokens": 1}).encode())
    assert answer.status == 200


async def test_whoever_speaks_plain_http_gets_nothing(secured: Secured) -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(secured.server.url.replace("https", "http") + "/health")


async def test_a_renewed_certificate_is_taken_up_without_a_restart(secured: Secured) -> None:
    before = await serial_number(secured)
    renewed = secured.authority.issue("server", b"s3cr3t-password")
    assert renewed == secured.pair, "the same files"
    secured.server.process.send_signal(signal.SIGHUP)
    await eventually(logged(secured.server, "ssl_certfile: server.pem read again"))
    after = await serial_number(secured)
    assert after != before
    secured.pair.certfile.write_text("half a certificate")
    secured.server.process.send_signal(signal.SIGHUP)
    await eventually(logged(secured.server, "that stays as it was"))
    assert await serial_number(secured) == after


async def test_callers_without_a_certificate_are_turned_away(engine: EngineProcess, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    pair, mine = authority.issue("server"), authority.issue("client")
    async with front_end(
        tmp_path,
        engine.url,
        tls=authority.trusting(mine),
        ssl_certfile=pair.certfile,
        ssl_keyfile=pair.keyfile,
        ssl_ca_certs=authority.ca_certs,
    ) as server:
        assert await health(server, authority.trusting(mine)) == 200
        for shown in (None, stranger.issue("forged")):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await health(server, authority.trusting(shown))


async def health(server: FrontEnd, context: ssl.SSLContext) -> int:
    async with aiohttp.ClientSession() as client, client.get(f"{server.url}/health", ssl=context) as response:
        return response.status


async def serial_number(secured: Secured) -> str:
    port = int(secured.server.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=secured.authority.trusting())
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return serial


def logged(server: FrontEnd, text: str) -> Callable[[], Awaitable[bool]]:
    async def is_there() -> bool:
        return text in server.output()

    return is_there
