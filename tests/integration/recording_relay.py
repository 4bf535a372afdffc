"""A unix socket in front of an engine that keeps what the engine answered, byte for byte."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httptools


class _Answers:
    """Reads answers off a connection; keeps each body under its `x-request-id`."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies
        self.on_message_begin()

    def on_message_begin(self) -> None:
        self._request_id = ""
        self._parts: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._request_id = value.decode()

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        self._bodies[self._request_id] = b"".join(self._parts)


class RecordingRelay:
    """`piece_bytes` bounds what is written at once, so that answers arrive cut at odd places."""

    def __init__(self, engine: Path, uds: Path, piece_bytes: int) -> None:
        self.url = f"unix:{uds}"
        self.bodies: dict[str, bytes] = {}
        self._engine = engine
        self._piece_bytes = piece_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(str(self._engine))
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(reader, upstream_writer))
                pumps.create_task(self._answers(upstream_reader, writer))
        finally:
            upstream_writer.close()
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = httptools.HttpResponseParser(_Answers(self.bodies))
        while data := await reader.read(65536):
            parser.feed_data(data)
            for at in range(0, len(data), self._piece_bytes):
                writer.write(data[at : at + self._piece_bytes])
                await asyncio.sleep(0)
        writer.close()


@contextlib.asynccontextmanager
async def recording_relay(engine: Path, uds: Path, piece_bytes: int = 65536) -> AsyncIterator[RecordingRelay]:
    relay = RecordingRelay(engine, uds, piece_bytes)
    server = await asyncio.start_unix_server(relay.connected, str(uds))
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
        await server.wait_closed()
