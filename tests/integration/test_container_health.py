"""The images' health check, run as Docker runs it, against answers like the server's."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web

from tests.certificates import Authority
from tests.local_http import serving

_SCRIPT = Path(__file__).parents[2] / "deploy" / "docker" / "ready.py"


async def _probe(url: str, **variables: str) -> tuple[int, str]:
    environ = {**os.environ, "WATTLINE_PORT": url.rpartition(":")[2], **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", str(_SCRIPT), env=environ, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1)])
async def test_a_container_is_healthy_when_a_worker_can_serve(status: int, exit_status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.path == "/ready"
        return web.Response(status=status)

    async with serving(answer) as url:
        assert (await _probe(url))[0] == exit_status
        proxy = "http://127.0.0.1:1"
        assert (await _probe(url, WATTLINE_SSL_CERTFILE="gone"))[0] == exit_status, "HTTP after all"
        assert (await _probe(url, http_proxy=proxy, HTTP_PROXY=proxy))[0] == exit_status, "it is no way to loopback"


async def test_a_server_that_is_not_there_is_not_healthy(unused_tcp_port: int) -> None:
    exit_status, printed = await _probe(f"http://127.0.0.1:{unused_tcp_port}")

    assert exit_status == 1
    assert "does not answer" in printed


async def test_a_certificate_of_another_name_is_no_illness(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("inference.example.org")
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certfile, pair.keyfile)

    async def ready(_: web.BaseRequest) -> web.Response:
        return web.Response()

    runner = web.ServerRunner(web.Server(ready))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        assert (await _probe(f"https://127.0.0.1:{port}", WATTLINE_SSL_CERTFILE=str(pair.certfile)))[0] == 0
        assert (await _probe(f"https://127.0.0.1:{port}"))[0] == 0, "the certificate is named in a file"
    finally:
        await runner.cleanup()
