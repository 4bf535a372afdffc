"""A caller that takes nothing of an answer that is already whole: its connection is not kept for good."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from server.connection_limits import ConnectionLimits
from server.corked_protocol import protocol_with

ANSWER = b"a" * 32_000_000  # more than the kernel's buffers hold
STALL_SECONDS = 0.1


async def big(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(ANSWER))]})
    await send({"type": "http.response.body", "body": ANSWER})


@pytest.fixture
async def server() -> AsyncIterator[uvicorn.Server]:
    config = uvicorn.Config(
        big, http=protocol_with(ConnectionLimits(STALL_SECONDS, STALL_SECONDS)), log_config=None, lifespan="off", port=0
    )
    running = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(running._serve(sockets=[listener]))
    while not running.started:  # noqa: ASYNC110  # it offers no event
        await asyncio.sleep(0.01)
    yield running
    running.should_exit = True
    await serving


async def connect(server: uvicorn.Server) -> socket.socket:
    caller = socket.socket()
    caller.setblocking(False)  # noqa: FBT003
    loop = asyncio.get_running_loop()
    await loop.sock_connect(caller, server.servers[0].sockets[0].getsockname())
    await loop.sock_sendall(caller, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return caller


async def test_who_takes_nothing_is_cut_off(server: uvicorn.Server) -> None:
    with await connect(server):
        async with asyncio.timeout(5):
            while not server.server_state.total_requests or server.server_state.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_who_takes_a_little_at_a_time_gets_it_all(server: uvicorn.Server) -> None:
    loop = asyncio.get_running_loop()
    with await connect(server) as caller:
        received = pauses = 0
        while part := await loop.sock_recv(caller, 1_000_000):
            received += len(part)
            if received > (pauses + 1) * len(ANSWER) // 8:  # a second in all, in which several looks fall
                pauses += 1
                await asyncio.sleep(0.15)
    assert received > len(ANSWER)
