"""One attack over one connection: sends it, listens, leaves as it says, and tells what was wrong with the answers."""

import asyncio
import contextlib
import socket
import struct
from typing import Final

import httptools

from bench.fuzz.attacks import Attack
from bench.fuzz.verdict import fault_of_answer

_ANSWER_SECONDS: Final = 10.0  # generous, for machines that are busy otherwise: what hangs, hangs for longer
_PATIENCE_SECONDS: Final = 0.2  # with what is not whole nobody owes an answer
_READ_BYTES: Final = 65_536


class _Answers:
    """Takes the answers of one connection apart."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.answered = 0
        self._type = ""
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._type, self._body = "", b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._type = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self.answered += 1
            fault = fault_of_answer(status, self._type, self._body)
            if fault is not None:
                self.faults.append(fault)


async def converse(port: int, attack: Attack) -> list[str]:
    """Carries out an attack against a server on loopback; returns the faults of its answers."""
    answers = _Answers()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        listening = asyncio.create_task(_listen(reader, answers))
        try:
            await _send(writer, attack)
            if attack.end == "half_close" and writer.can_write_eof():
                with contextlib.suppress(OSError):
                    writer.write_eof()
            if attack.end in {"wait", "half_close"}:
                await _wait(listening, answers, attack)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    finally:
        await _leave(writer, attack)
    return answers.faults


async def _send(writer: asyncio.StreamWriter, attack: Attack) -> None:
    """Whoever refuses the start of an attack need not take the rest of it."""
    with contextlib.suppress(OSError):
        for packet in attack.packets:
            writer.write(packet)
            async with asyncio.timeout(_ANSWER_SECONDS):
                await writer.drain()
            # Without a pause the pieces are sent as one.
            await asyncio.sleep(attack.pause_seconds or 0.001)


async def _listen(reader: asyncio.StreamReader, answers: _Answers) -> None:
    """Ends when the server closes. What cannot be read as HTTP answers what was no HTTP either."""
    with contextlib.suppress(OSError, httptools.HttpParserError, httptools.HttpParserUpgrade):
        while data := await reader.read(_READ_BYTES):
            answers.feed(data)


async def _wait(listening: asyncio.Task[None], answers: _Answers, attack: Attack) -> None:
    loop = asyncio.get_running_loop()
    deadline_seconds = loop.time() + (_ANSWER_SECONDS if attack.is_whole else _PATIENCE_SECONDS)
    while not listening.done() and not (attack.is_whole and answers.answered):
        if loop.time() >= deadline_seconds:
            if attack.is_whole:
                answers.faults.append(f"neither an answer nor the end of the connection in {_ANSWER_SECONDS:.0f} s")
            return
        await asyncio.wait({listening}, timeout=0.02)


async def _leave(writer: asyncio.StreamWriter, attack: Attack) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if attack.end == "reset" and raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
