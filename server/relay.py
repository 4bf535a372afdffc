"""One engine's answer on its way to the caller: as bytes, told of in the record, held at its end until it is kept."""

from collections.abc import Awaitable, Callable

import aiohttp

from metering.block import encode_block, unknown_energy_block
from metering.routes import runs_engine
from metering.splice import splice_into_object
from server.answer import StreamEnd, cost_of_body, extended_body
from server.api_error import ApiError, normalised_error
from server.asgi import Headers, Send, caller_headers, json_headers, send_whole
from server.cost import NO_COST
from server.engine_failure import begins_with_failure
from server.event_stream import EventStream
from server.exchange_record import ExchangeRecord
from server.held_stream import HeldStream
from server.service_tier import TIER_HEADER, with_tier_told
from server.serving import Serving
from server.stall_watch import StallWatch
from workers.engine_connection import EngineAnswer
from workers.errors import EngineUnreachableError
from workers.progress import AwaitedAnswer


class Relay:
    """Relays the answer to one request. `record` is filled in as it goes.

    `has_begun` once a byte of an answer has reached the caller; `has_failed` once a stream has told of the error that
    ends it; `held_up_seconds` is how long the caller let it wait. `headers` are added to the engine's own.
    """

    def __init__(
        self,
        record: ExchangeRecord,
        serving: Serving,
        send: Send,
        elapsed_seconds: Callable[[], float],
        headers: Headers,
    ) -> None:
        self._record = record
        self._books = serving.books
        self._roster = serving.roster
        self._send = send
        self._elapsed_seconds = elapsed_seconds
        self._headers = [*headers, (TIER_HEADER, record.tier.encode("ascii"))]
        self._held = HeldStream(send, record.request_id, self._headers) if record.is_stream else None
        self._has_begun_stream = False
        self.has_failed = False
        self.held_up_seconds = 0.0

    @property
    def has_begun(self) -> bool:
        return self._has_begun_stream or (self._held is not None and self._held.has_begun)

    def release(self) -> None:
        """The wait for an answer is over, however it ended."""
        if self._held is not None:
            self._held.release()

    async def fail(self, error: ApiError) -> None:
        """Tell the caller: as the answer while there is still none, else as the last event of the stream.

        Raises:
            ApiError: nothing was sent yet, and this is the answer.
        """
        self.release()
        if not self.has_begun:
            raise error
        self._record.status, self._record.outcome, self._record.error_code = error.status, "failed", error.code
        await self._keep()
        await self._send(_last_event(error.body()))

    async def whole(self, response: EngineAnswer, path: str, awaited: AwaitedAnswer, unmetered: bytes) -> None:
        """Relay an answer in one piece. `unmetered` is the block of a worker that tells none, empty where it does.

        Raises:
            EngineUnreachableError: it broke off; nothing was sent.
        """
        record = self._record
        try:
            body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error
        awaited.end()
        headers = [*caller_headers(response.raw_headers, record.request_id), *self._headers]
        if response.status >= 400:
            body = normalised_error(response.status, body, path)
            headers = json_headers(headers)
        elif response.status == 200 and runs_engine(path):
            self._roster.stored.see(path, record.worker_id or "", record.tenant, body)
            body = with_tier_told(body, record.tier)
            record.cost = cost_of_body(body)
            if record.cost is NO_COST and unmetered:
                body = splice_into_object(body, unmetered) or body
                record.cost = cost_of_body(body)
        self._end(response.status)
        body = extended_body(body, self._books.told_beside(record))
        await self._keep()
        if self._held is not None and self._held.has_begun:
            await self._send(_last_event(body))
        else:
            await send_whole(self._send, response.status, headers, body)

    async def stream(
        self,
        response: EngineAnswer,
        path: str,
        awaited: AwaitedAnswer,
        unmetered: bytes,
        leave_for_another: Callable[[str], Awaitable[None]],
        give_up_on_caller: Callable[[], None],
    ) -> None:
        """Relay a stream as it comes. Its first bytes are awaited before anything is sent, so that a retry can hide.

        Raises:
            EngineUnreachableError: it broke off before anything was sent.
        """
        record, end = self._record, StreamEnd()
        annotate = EventStream(unmetered) if unmetered else None
        piece = await self._first_piece(response.content)
        if begins_with_failure(piece):
            await leave_for_another("its stream began with an error")
        awaited.piece_received()
        self._roster.stored.see(path, record.worker_id or "", record.tenant, piece)
        record.first_byte_seconds = self._elapsed_seconds()
        await self._begin_stream(response)
        watch = StallWatch(self._send, give_up_on_caller)
        self._send = watch.send  # of the end too: whoever takes nothing may take all but that
        try:
            await self._stream_on(piece, response, awaited, end, annotate)
        finally:
            watch.close()
            self.held_up_seconds = record.held_up_seconds = watch.held_up_seconds

    async def _stream_on(
        self,
        piece: bytes,
        response: EngineAnswer,
        awaited: AwaitedAnswer,
        end: StreamEnd,
        annotate: EventStream | None,
    ) -> None:
        record, chunks = self._record, response.content
        try:
            while piece:
                outgoing = end.feed(piece if annotate is None else annotate.feed(piece))
                if outgoing:
                    await self._send({"type": "http.response.body", "body": outgoing, "more_body": True})
                awaited.next_awaited()
                piece = await chunks.readany()
                awaited.piece_received()
        except (aiohttp.ClientError, OSError) as error:
            awaited.end()
            self.has_failed = True
            record.cost = end.cost()
            message = f"worker {record.worker_id} broke off in mid-stream ({type(error).__name__})"
            await self.fail(ApiError(502, message, "engine_error"))
            return
        finally:
            # Also of a caller who leaves once the answer is whole, or its error told.
            record.cost = end.cost()
            self.has_failed = self.has_failed or end.tells_of_error()
        if annotate is not None and (passed := end.feed(annotate.flush())):
            await self._send({"type": "http.response.body", "body": passed, "more_body": True})
        await self._end_stream(end, response.status)

    async def _end_stream(self, end: StreamEnd, status: int) -> None:
        record = self._record
        record.cost = end.cost()
        self._end(502 if self.has_failed else status)
        rest = end.finish(self._books.told_beside(record))
        await self._keep()
        await self._send({"type": "http.response.body", "body": rest, "more_body": False})

    async def _first_piece(self, chunks: EngineAnswer) -> bytes:
        try:
            piece = await chunks.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error
        if not piece:
            raise EngineUnreachableError(f"worker {self._record.worker_id} ended a stream before it began")
        return piece

    async def _begin_stream(self, response: EngineAnswer) -> None:
        if self._held is not None:
            self._held.release()
            if self._held.has_begun:
                return
        self._has_begun_stream = True
        headers: Headers = [*caller_headers(response.raw_headers, self._record.request_id), *self._headers]
        headers.append((b"x-accel-buffering", b"no"))
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})

    def _end(self, status: int) -> None:
        self._record.status, self._record.total_seconds = status, self._elapsed_seconds()
        self._record.outcome = "completed" if status < 400 else "refused" if status < 500 else "failed"

    async def _keep(self) -> None:
        record = self._record
        record.total_seconds = self._elapsed_seconds()
        if record.is_charged_later and record.worker_id is not None:
            source, is_measured = self._roster.meter_of(record.worker_id)
            record.file_under(source, is_measured=is_measured)
        await self._books.keep(record)


def unmetered_block(worker_id: str) -> bytes:
    """The energy block of an answer from a worker that tells of none."""
    return encode_block(unknown_energy_block(f"worker {worker_id} does not measure energy"))


def _last_event(body: bytes) -> dict[str, object]:
    data = b"data: " + body.replace(b"\n", b"") + b"\n\ndata: [DONE]\n\n"
    return {"type": "http.response.body", "body": data, "more_body": False}
