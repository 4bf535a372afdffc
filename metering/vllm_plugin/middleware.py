"""ASGI middleware that tells the meter of requests and writes their energy into the responses.

Loaded by `--middleware metering.vllm_plugin.EnergyMiddleware` into vLLM's OpenAI server. Adds `GET /energy`. Holds a
non-streaming body until it is whole (vLLM sends it in one piece) and no streamed byte at all.
"""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

from metering.block import RequestEnergy, encode_block
from metering.counter import MICROJOULES_PER_JOULE
from metering.routes import runs_engine
from metering.splice import StreamAnnotator, splice_into_object
from metering.vllm_plugin.cap_request import CapRefusedError, Message, Receive, Scope, read_cap
from metering.vllm_plugin.exporter import register_exporter
from metering.vllm_plugin.live_sequences import live_sequences
from metering.vllm_plugin.session import MeterSession, process_session

Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_RESPONSE_ID: Final = re.compile(rb'"id":"(resp_[A-Za-z0-9]+)"')
_VALID_REQUEST_ID: Final = re.compile(rb"^[A-Za-z0-9._:-]{1,128}$")
# How often to let the engine's output loop run when a body arrives before the statistics of its last step: vLLM
# yields between blocks of 128 outputs, and reports a step only after the last block.
_STATISTICS_YIELDS: Final = 64
_OUTPUT_BLOCK: Final = 128


class EnergyMiddleware:
    """The middleware class named on vLLM's command line."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._session = process_session()
        register_exporter(self._session)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/energy" and scope["method"] == "GET":
            await _send_json(send, json.dumps(self._session.telemetry()).encode())
        elif scope["method"] == "POST" and runs_engine(scope["path"]):
            await _MeteredExchange(self._session, scope, receive, send).run(self._app)
        else:
            if scope["path"].rstrip("/") == "/metrics":
                self._session.telemetry()  # what the exporter is about to show, from another thread
            await self._app(scope, receive, send)


class _MeteredExchange:
    """One request to the engine and its response."""

    def __init__(self, session: MeterSession, scope: Scope, receive: Receive, send: Send) -> None:
        self._session = session
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = self._claim_request_id()
        self._start: Message | None = None
        self._body: list[bytes] = []
        self._stream: StreamAnnotator | None = None
        self._energy: RequestEnergy | None = None
        self._engine_id: str | None = None
        self._finished = False
        self._refused = False
        self._is_body_read = False
        self._is_answered = False

    async def run(self, app: App) -> None:
        meter = self._session.meter
        if meter is not None:
            meter.request_started(self._request_id, time.monotonic())
        try:
            await app(self._scope, self._receive_watching, self._forward)
        finally:
            self._session.caps.end(self._request_id)
            meter = self._session.meter
            if meter is not None and meter.is_open(self._request_id):
                if self._refused:
                    meter.request_refused(self._request_id)
                elif self._finished:
                    meter.request_ended(self._request_id, time.monotonic(), also_known_as=self._engine_id)
                else:
                    self._cut_off()

    # -- request side --------------------------------------------------------------------------------------------

    def _claim_request_id(self) -> str:
        """The caller's X-Request-Id where it is usable and not in flight already; written back for vLLM to use."""
        headers: list[tuple[bytes, bytes]] = list(self._scope["headers"])
        given = next((value for name, value in headers if name == b"x-request-id"), None)
        meter = self._session.meter
        if given is not None and _VALID_REQUEST_ID.match(given):
            request_id = given.decode("ascii")
            if meter is not None and meter.knows(request_id):
                request_id = f"{request_id}.{secrets.token_hex(4)}"
        else:
            request_id = secrets.token_hex(16)
        kept = [(name, value) for name, value in headers if name != b"x-request-id"]
        self._scope["headers"] = [*kept, (b"x-request-id", request_id.encode("ascii"))]
        return request_id

    async def _receive_watching(self) -> Message:
        if not self._is_body_read:
            self._is_body_read = True
            if not await self._take_cap():
                return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._finished:
            self._cut_off()
        return message

    async def _take_cap(self) -> bool:
        """Read the body for a cap, now that the application wants it: whoever may not come in has been turned away.

        Returns whether the request may go on. If not, the application is told that its caller has left.
        """
        session = self._session
        try:
            request = await read_cap(
                self._scope, self._receive, lambda: session.why_caps_cannot_be_kept(time.monotonic())
            )
        except CapRefusedError as refusal:
            self._refused = True
            self._is_answered = True  # whatever the application makes of its caller's leaving
            await _send_json(self._send, refusal.body, status=400)
            return False
        self._receive = request.receive
        if request.max_joules is not None:
            self._engine_id = request.engine_name
            session.caps.begin(self._request_id, request.max_joules, self._scope.get("app"), request.engine_name)
        return True

    def _cut_off(self) -> None:
        """The caller left: note what its live sequences have used before vLLM forgets them."""
        meter = self._session.meter
        if meter is None or not meter.is_open(self._request_id):
            return
        if self._refused:
            meter.request_refused(self._request_id)
            return
        self._session.caps.end(self._request_id)
        for sequence in live_sequences(self._scope.get("app"), self._owns):
            meter.sequence_cut_off(self._request_id, sequence)
        meter.request_aborted(self._request_id, time.monotonic(), also_known_as=self._engine_id)

    def _owns(self, sequence_id: str) -> bool:
        engine_name = sequence_id.rpartition("_")[0]  # the Responses API numbers its turns
        return self._session.owner_of(sequence_id) == self._request_id or engine_name == self._engine_id

    # -- response side -------------------------------------------------------------------------------------------

    async def _forward(self, message: Message) -> None:
        if self._is_answered:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._stream is not None:
            await self._forward_event(message)
        elif self._start is not None:
            self._body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish_body()
        else:
            self._finished = not message.get("more_body", False)
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        content_type = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
        if message["status"] != 200:
            self._refused = True
            await self._send(message)
        elif content_type.startswith(b"text/event-stream"):
            self._stream = StreamAnnotator(self._end_request)
            await self._send(message)
        else:
            self._start = message

    async def _forward_event(self, message: Message) -> None:
        assert self._stream is not None
        chunk = message.get("body", b"")
        last = not message.get("more_body", False)
        if chunk:
            self._learn_engine_id(chunk)
            if self._stream.may_end(chunk):
                await self._wait_for_statistics()
                message["body"] = self._stream.feed(chunk)
        if last:
            self._finished = True
        await self._send(message)

    async def _finish_body(self) -> None:
        """The whole body is here: add the block and send both messages."""
        assert self._start is not None
        self._finished = True
        body = b"".join(self._body)
        self._learn_engine_id(body)
        await self._wait_for_statistics()
        block = self._end_request()
        spliced = splice_into_object(body, block)
        headers = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
        body = body if spliced is None else spliced
        self._start["headers"] = [*headers, *self._energy_headers(), (b"content-length", b"%d" % len(body))]
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _wait_for_statistics(self) -> None:
        """Let the engine's output loop report the step in which this request ended, if it has not."""
        for _ in range(_STATISTICS_YIELDS):
            if self._is_told():
                break
            await asyncio.sleep(0)
        # One sequence may have ended long before the last one.
        for _ in range(self._session.running_requests // _OUTPUT_BLOCK):
            await asyncio.sleep(0)

    def _is_told(self) -> bool:
        meter = self._session.meter
        if meter is None or not meter.is_open(self._request_id):
            return True
        return meter.has_ended_sequences(self._request_id, also_known_as=self._engine_id)

    def _learn_engine_id(self, chunk: bytes) -> None:
        """The Responses API runs under an id of its own making, which is also that of its response."""
        if self._engine_id is None and self._scope["path"] == "/v1/responses":
            found = _RESPONSE_ID.search(chunk)
            self._engine_id = found[1].decode("ascii") if found else None

    def _end_request(self) -> bytes:
        """The encoded block; asked once, when every sequence of the request has ended."""
        session, meter = self._session, self._session.meter
        if meter is None:
            return session.unknown_block(**session.caps.end(self._request_id, session.unmeasured_reason))
        if not meter.is_open(self._request_id):
            return session.unknown_block("the request was cut off before its end")
        told = self._is_told()
        energy = meter.request_ended(self._request_id, time.monotonic(), also_known_as=self._engine_id)
        if not told:
            reason = "the engine reported no work for this request"
            return session.unknown_block(reason, **session.caps.end(self._request_id, reason))
        self._energy = energy
        return encode_block(energy.to_block() | session.caps.end(self._request_id, energy.unknown_reason))

    def _energy_headers(self) -> list[tuple[bytes, bytes]]:
        energy = self._energy
        if energy is None or energy.unknown_reason is not None:
            return []
        joules = f"{energy.microjoules / MICROJOULES_PER_JOULE:.6f}"
        return [(b"x-energy-joules", joules.encode()), (b"x-energy-source", energy.source.encode())]


async def _send_json(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
