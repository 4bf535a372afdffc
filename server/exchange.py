"""One request from its arrival to the last byte of its answer: placed, sent, relayed, counted.

The hot path of the server. Bodies pass as bytes; a request is sent to another worker only while no byte of the answer
has reached the caller.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Final, TypeVar

import aiohttp

from metering.block import encode_block, unknown_energy_block
from metering.routes import runs_engine
from metering.splice import splice_into_object
from scheduler.commands import Dispatch
from scheduler.driver import SchedulerDriver
from scheduler.errors import RejectedError, RequestGoneError
from scheduler.events import RequestArrived, RequestFinished
from server.answer import Cost, StreamTail, cost_of_body
from server.api_error import ApiError, normalised_error
from server.asgi import (
    Headers,
    Scope,
    Send,
    caller_headers,
    engine_headers,
    engine_target,
    header,
    json_headers,
    send_whole,
)
from server.engine_failure import begins_with_failure, is_failure_status
from server.event_stream import EventStream
from server.exchange_record import ExchangeRecord
from server.held_stream import HeldStream
from server.ledger_of_aborts import LedgerOfAborts
from server.rejections import api_error
from server.roster import Roster
from server.service_tier import TIER_HEADER, with_tier_told
from server.stall_watch import StallWatch
from server.stored_responses import StoredResponses
from workers.errors import EngineUnreachableError
from workers.progress import AwaitedAnswer

logger = logging.getLogger("wattline.server")

T = TypeVar("T")

# A request that three engines in a row broke off is more likely at fault than they are.
_MAX_ATTEMPTS: Final = 3

# More of an answer's time spent on waiting for its caller says more of him than of the engine.
_HELD_UP_RATIO: Final = 0.1


class Exchange:
    """Serves one request to an engine route. `record` is filled in as it goes.

    `has_failed` once the caller has been sent the error that ends its stream, whatever it does then.
    """

    def __init__(
        self,
        driver: SchedulerDriver,
        roster: Roster,
        aborts: LedgerOfAborts,
        stored: StoredResponses,
        record: ExchangeRecord,
        started_at_seconds: float,
    ) -> None:
        self._driver = driver
        self._roster = roster
        self._aborts = aborts
        self._stored = stored
        self._record = record
        self._started_at_seconds = started_at_seconds
        self._cost = Cost()
        self._task = asyncio.current_task()
        self._interruption: ApiError | None = None
        self._has_begun = False
        self._is_stalled = False
        self._held_up_seconds = 0.0
        self._tried_worker_ids: list[str] = []
        self.engine_id: str | None = None
        self.has_failed = False

    def interrupt(self, error: ApiError) -> None:
        """End it now with this error, inside the stream where one has begun. Its engine aborts the request."""
        if self._task is not None:
            self._interruption = error
            self._task.cancel()

    async def prepare(self, coming: Awaitable[T]) -> T:
        """Wait for what must be known before `serve`.

        Raises:
            ApiError: it was interrupted meanwhile, and this is the answer.
        """
        try:
            return await coming
        except asyncio.CancelledError:
            if self._task is None or self._interruption is None:
                raise
            self._task.uncancel()
            raise self._interruption from None

    async def serve(self, scope: Scope, body: bytes, arrival: RequestArrived, send: Send, *, stream: bool) -> None:
        """Serve it to the end.

        Raises:
            ApiError: nothing was sent to the caller yet, and this is the answer.
        """
        record = self._record
        held = HeldStream(send, record.request_id, record.tier) if stream else None
        try:
            dispatch = await self._place(arrival)
            try:
                await self._serve_on(dispatch, scope, body, arrival, send, held)
            finally:
                self._driver.finished(self._finished(arrival.request_id))
        except ApiError as error:
            await self._fail(error, send, held)
        except asyncio.CancelledError:
            if self._task is None or (self._interruption is None and not self._is_stalled):
                raise
            self._task.uncancel()
            if self._interruption is None:
                self._abandon(arrival.request_id)
                return
            await self._fail(self._interruption, send, held)
        finally:
            if held is not None:
                held.release()
            record.energy_joules, record.energy_source = self._cost.energy_joules, self._cost.source
            record.prompt_tokens, record.output_tokens = self._cost.prompt_tokens, self._cost.output_tokens

    def _finished(self, request_id: str) -> RequestFinished:
        """What the scheduler may learn from a request that its worker is done with."""
        cost, first_seconds = self._cost, self._record.first_byte_seconds
        if self._record.outcome != "completed":
            return RequestFinished(request_id)
        rest_tokens = (cost.output_tokens or 0) - 1
        tpot_seconds = None
        if first_seconds is not None and rest_tokens > 0:
            rest_seconds = self._elapsed() - first_seconds
            # Of an answer that its caller took slowly nobody can say how fast it might have come.
            if self._held_up_seconds <= _HELD_UP_RATIO * rest_seconds:
                tpot_seconds = rest_seconds / rest_tokens
        return RequestFinished(request_id, cost.prompt_tokens, cost.output_tokens, first_seconds, tpot_seconds)

    def _give_up_on_caller(self) -> None:
        if self._task is not None:
            self._is_stalled = True
            self._task.cancel()

    def _abandon(self, request_id: str) -> None:
        """The caller takes nothing, not even an error; returning closes the connection."""
        self._record.outcome = "aborted"
        self._aborts.expect(self.engine_id or request_id, self._record)

    async def _fail(self, error: ApiError, send: Send, held: HeldStream | None) -> None:
        """Tell the caller: as the answer while there is still none, else as the last event of the stream."""
        if held is not None:
            held.release()
        if not self._has_begun and (held is None or not held.has_begun):
            raise error
        self._record.status, self._record.outcome = error.status, "failed"
        await send(_last_error(error))

    # -- placing -------------------------------------------------------------------------------------------------

    async def _place(self, arrival: RequestArrived) -> Dispatch:
        try:
            dispatch = await self._driver.place(arrival)
        except RejectedError as error:
            self._record.outcome = "refused"
            raise api_error(error.reject) from None
        self._record.queue_seconds = self._elapsed()
        return dispatch

    async def _place_again(self, arrival: RequestArrived, failed: Dispatch, error: EngineUnreachableError) -> Dispatch:
        try:
            return await self._driver.place_again(arrival.request_id, failed.worker_id)
        except RejectedError as rejected:
            raise api_error(rejected.reject) from error
        except RequestGoneError:
            raise ApiError(503, "the server is stopping", headers={"Retry-After": "5"}) from error

    # -- sending and relaying ------------------------------------------------------------------------------------

    async def _serve_on(
        self,
        dispatch: Dispatch,
        scope: Scope,
        body: bytes,
        arrival: RequestArrived,
        send: Send,
        held: HeldStream | None,
    ) -> None:
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            self._record.worker_id = dispatch.worker_id
            self._tried_worker_ids.append(dispatch.worker_id)
            # An id of its own for each attempt: two workers may report what they spent on one request.
            engine_id = arrival.request_id if attempt == 1 else f"{arrival.request_id}.{attempt}"
            self.engine_id = engine_id
            try:
                await self._attempt(dispatch.worker_id, scope, body, engine_id, send, held)
                if self._record.outcome == "failed" and self._cost.energy_joules is None:
                    self._aborts.expect(engine_id, self._record)
                return
            except EngineUnreachableError as error:
                logger.warning("request %s broke off on %s: %s", engine_id, dispatch.worker_id, error)
                self._roster.suspect(dispatch.worker_id)
                self._aborts.expect(engine_id, self._record)
                if attempt == _MAX_ATTEMPTS:
                    raise ApiError(502, f"the engine broke off {attempt} times", "engine_error") from error
                dispatch = await self._place_again(arrival, dispatch, error)

    async def _attempt(
        self, worker_id: str, scope: Scope, body: bytes, request_id: str, send: Send, held: HeldStream | None
    ) -> None:
        client = self._roster.client(worker_id)
        if client is None:
            raise EngineUnreachableError(f"worker {worker_id} is gone")
        headers = engine_headers(scope["headers"], request_id)
        awaited = self._roster.sent(worker_id)
        if not runs_engine(scope["path"]):
            awaited.end()  # it may take its time without a single step of the engine
        try:
            response = await client.send(scope["method"], engine_target(scope), headers, body)
            kind = header(response.raw_headers, b"content-type") or b""
            is_stream = kind.startswith(b"text/event-stream")
            is_answer = response.status == 200 and not is_stream and runs_engine(scope["path"])
            awaited.headers_received(is_answer=is_answer)
            try:
                _check_status(worker_id, response.status)
                if is_failure_status(response.status):
                    await self._leave_for_another(worker_id, scope["path"], f"it answered {response.status}")
                if is_stream:
                    await self._relay_stream(worker_id, scope["path"], response, send, held, awaited)
                else:
                    await self._relay_whole(worker_id, scope["path"], response, send, held, awaited)
            except BaseException:
                response.close()
                raise
            response.release()
        finally:
            awaited.end()

    async def _leave_for_another(self, worker_id: str, path: str, failure: str) -> None:
        """Leave an engine's own failure unsaid where another attempt may do better; else it is the answer.

        Where no other worker is ready a worker that is well is not asked again: it would most likely say the same.

        Raises:
            EngineUnreachableError: this attempt is over.
        """
        if len(self._tried_worker_ids) == _MAX_ATTEMPTS or not runs_engine(path):
            return
        has_died = await self._roster.has_died(worker_id)
        if has_died or self._roster.is_served_elsewhere(self._record.model, self._tried_worker_ids):
            raise EngineUnreachableError(f"{failure}{', as its engine has died' if has_died else ''}")

    async def _relay_whole(
        self,
        worker_id: str,
        path: str,
        response: aiohttp.ClientResponse,
        send: Send,
        held: HeldStream | None,
        awaited: AwaitedAnswer,
    ) -> None:
        try:
            body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error
        awaited.end()
        headers = caller_headers(response.raw_headers, self._record.request_id)
        headers.append(self._tier_header())
        if response.status >= 400:
            body = normalised_error(response.status, body, path)
            headers = json_headers(headers)
        elif response.status == 200 and runs_engine(path):
            self._stored.see(path, worker_id, body)
            body = with_tier_told(body, self._record.tier)
            self._cost = cost_of_body(body)
            if self._cost == Cost() and not self._roster.is_metered(worker_id):
                body = splice_into_object(body, _unmetered_block(worker_id)) or body
        self._end(response.status)
        if held is not None and held.has_begun:
            await send(_last_event(body))
        else:
            await send_whole(send, response.status, headers, body)

    async def _relay_stream(
        self,
        worker_id: str,
        path: str,
        response: aiohttp.ClientResponse,
        send: Send,
        held: HeldStream | None,
        awaited: AwaitedAnswer,
    ) -> None:
        """Relay a stream as it comes. Its first bytes are awaited before anything is sent, so that a retry can hide."""
        annotate = None if self._roster.is_metered(worker_id) else EventStream(_unmetered_block(worker_id))
        tail = StreamTail()
        chunks = response.content
        try:
            chunk = await chunks.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise EngineUnreachableError(f"{type(error).__name__}: {error}") from error
        if not chunk:
            raise EngineUnreachableError(f"worker {worker_id} ended a stream before it began")
        if begins_with_failure(chunk):
            await self._leave_for_another(worker_id, path, "its stream began with an error")
        awaited.piece_received()
        self._stored.see(path, worker_id, chunk)
        self._record.first_byte_seconds = self._elapsed()
        await self._begin_stream(response, send, held)
        watch = StallWatch(send, self._give_up_on_caller)
        try:
            while chunk:
                tail.feed(chunk)
                outgoing = chunk if annotate is None else annotate.feed(chunk)
                if outgoing:
                    await watch.send({"type": "http.response.body", "body": outgoing, "more_body": True})
                awaited.next_awaited()
                chunk = await chunks.readany()
                awaited.piece_received()
        except (aiohttp.ClientError, OSError) as error:
            awaited.end()
            self._end(502)
            self.has_failed = True
            message = f"worker {worker_id} broke off in mid-stream ({type(error).__name__})"
            await send(_last_error(ApiError(502, message, "engine_error")))
            return
        finally:
            watch.close()
            self._held_up_seconds = watch.held_up_seconds
            # Also of a caller who leaves once the answer is whole, or its error told.
            self._cost = tail.cost()
            self.has_failed = self.has_failed or tail.tells_of_error()
        self._end(502 if self.has_failed else response.status)
        rest = b"" if annotate is None else annotate.flush()
        await send({"type": "http.response.body", "body": rest, "more_body": False})

    async def _begin_stream(self, response: aiohttp.ClientResponse, send: Send, held: HeldStream | None) -> None:
        if held is not None:
            held.release()
            if held.has_begun:
                return
        self._has_begun = True
        headers: Headers = caller_headers(response.raw_headers, self._record.request_id)
        headers += [(b"x-accel-buffering", b"no"), self._tier_header()]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})

    def _tier_header(self) -> tuple[bytes, bytes]:
        return TIER_HEADER, self._record.tier.encode("ascii")

    def _end(self, status: int) -> None:
        self._record.status = status
        self._record.outcome = "completed" if status < 400 else "refused" if status < 500 else "failed"

    def _elapsed(self) -> float:
        return time.monotonic() - self._started_at_seconds


def _check_status(worker_id: str, status: int) -> None:
    if not 200 <= status < 600:
        raise ApiError(502, f"worker {worker_id} answered with status {status}", "engine_error")


def _unmetered_block(worker_id: str) -> bytes:
    return encode_block(unknown_energy_block(f"worker {worker_id} does not measure energy"))


def _last_error(error: ApiError) -> dict[str, object]:
    return _last_event(error.body())


def _last_event(body: bytes) -> dict[str, object]:
    data = b"data: " + body.replace(b"\n", b"") + b"\n\ndata: [DONE]\n\n"
    return {"type": "http.response.body", "body": data, "more_body": False}
