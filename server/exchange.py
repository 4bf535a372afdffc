"""One request from its arrival to the last byte of its answer: placed, sent, relayed, counted.

The hot path of the server. Bodies pass as bytes; a request is sent to another worker only while no byte of the answer
has reached the caller.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Final, TypeVar

from metering.energy_cap import CAP_FIELD
from metering.routes import runs_engine
from scheduler.commands import Dispatch
from scheduler.errors import RejectedError, RequestGoneError
from scheduler.events import RequestArrived, RequestFinished
from server.api_error import ApiError
from server.asgi import Headers, Scope, Send, engine_headers, engine_target, header
from server.engine_failure import is_failure_status
from server.exchange_record import ExchangeRecord
from server.rejections import api_error
from server.relay import Relay, unmetered_block
from server.serving import Serving
from server.tracing import RequestSpan
from workers.errors import EngineUnreachableError

logger = logging.getLogger("wattline.server")

T = TypeVar("T")

# A request that three engines in a row broke off is more likely at fault than they are.
_MAX_ATTEMPTS: Final = 3

# More of an answer's time spent on waiting for its caller says more of him than of the engine.
_HELD_UP_RATIO: Final = 0.1


class Exchange:
    """Serves one request to an engine route. `record` is filled in as it goes.

    `headers` are told the caller beside the engine's. One that `is_capped` runs on no worker that cannot keep its cap.
    `has_failed` once the caller has been sent the error that ends its stream, whatever it does then.
    """

    def __init__(
        self,
        serving: Serving,
        span: RequestSpan,
        record: ExchangeRecord,
        started_at_seconds: float,
        headers: Headers,
        *,
        is_capped: bool = False,
    ) -> None:
        self._is_capped = is_capped
        self._driver = serving.driver
        self._roster = serving.roster
        self._aborts = serving.aborts
        self._serving = serving
        self._span = span
        self._record = record
        self._started_at_seconds = started_at_seconds
        self._headers = headers
        self._relay: Relay | None = None
        self._task = asyncio.current_task()
        self._interruption: ApiError | None = None
        self._is_stalled = False
        self._tried_worker_ids: list[str] = []
        self.engine_id: str | None = None  # what its engine knows it by, once there is one

    @property
    def has_failed(self) -> bool:
        return self._relay is not None and self._relay.has_failed

    def interrupt(self, error: ApiError) -> None:
        """End it now with this error, inside the stream where one has begun. Its engine aborts the request.

        One whose answer is whole, and waits for the ledger alone, goes on to its end.
        """
        if self._task is not None and not self._record.is_kept:
            self.expect_charge()
            self._interruption = error
            self._task.cancel()

    def expect_charge(self) -> None:
        """What it used is told later by its worker, which says by what it measures in advance."""
        worker_id = self._record.worker_id
        if self.engine_id is not None and worker_id is not None:
            source, is_measured = self._roster.meter_of(worker_id)
            self._record.file_under(source, is_measured=is_measured)
            self._aborts.expect(self.engine_id, self._record)
            self._roster.charge_soon(worker_id)

    def forget_charge(self) -> None:
        """If its answer has told what it used, the worker's word on that is of no more use."""
        if self.engine_id is not None and (joules := self._record.energy_joules) is not None:
            self._aborts.answered(self.engine_id, joules)

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

    async def serve(self, scope: Scope, body: bytes, arrival: RequestArrived, send: Send) -> None:
        """Serve it to the end.

        Raises:
            ApiError: nothing was sent to the caller yet, and this is the answer.
        """
        self._relay = relay = Relay(self._record, self._serving, send, self._elapsed, self._headers)
        try:
            dispatch = await self._place(arrival)
            try:
                await self._serve_on(dispatch, scope, body, arrival, relay)
            finally:
                self._driver.finished(self._finished(arrival.request_id, relay))
        except ApiError as error:
            await relay.fail(error)
        except asyncio.CancelledError:
            if self._task is None or (self._interruption is None and not self._is_stalled):
                raise
            self._task.uncancel()
            if self._interruption is None:
                if not self._record.is_kept:
                    self._record.abort()
                    self.expect_charge()
                return  # he takes nothing, not even an error; returning closes the connection
            await relay.fail(self._interruption)
        finally:
            relay.release()

    def _finished(self, request_id: str, relay: Relay) -> RequestFinished:
        """What the scheduler may learn from a request that its worker is done with."""
        cost, first_seconds = self._record.cost, self._record.first_byte_seconds
        if self._record.outcome != "completed":
            return RequestFinished(request_id)
        rest_tokens = (cost.output_tokens or 0) - 1
        tpot_seconds = None
        if first_seconds is not None and rest_tokens > 0:
            rest_seconds = self._elapsed() - first_seconds
            # Of an answer that its caller took slowly nobody can say how fast it might have come.
            if relay.held_up_seconds <= _HELD_UP_RATIO * rest_seconds:
                tpot_seconds = rest_seconds / rest_tokens
        return RequestFinished(request_id, cost.prompt_tokens, cost.output_tokens, first_seconds, tpot_seconds)

    def _give_up_on_caller(self) -> None:
        if self._task is not None:
            self._is_stalled = True
            self._task.cancel()

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
        self, dispatch: Dispatch, scope: Scope, body: bytes, arrival: RequestArrived, relay: Relay
    ) -> None:
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            self._record.worker_id = dispatch.worker_id
            self._tried_worker_ids.append(dispatch.worker_id)
            # An id of its own for each attempt: two workers may report what they spent on one request.
            engine_id = arrival.request_id if attempt == 1 else f"{arrival.request_id}.{attempt}"
            self.engine_id = engine_id
            try:
                await self._attempt(dispatch.worker_id, scope, body, engine_id, relay)
                if self._record.is_charged_later:
                    self.expect_charge()
                return
            except EngineUnreachableError as error:
                logger.warning("request %s broke off on %s: %s", engine_id, dispatch.worker_id, error)
                self._roster.suspect(dispatch.worker_id)
                self.expect_charge()
                if attempt == _MAX_ATTEMPTS:
                    raise ApiError(502, f"the engine broke off {attempt} times", "engine_error") from error
                dispatch = await self._place_again(arrival, dispatch, error)

    async def _attempt(self, worker_id: str, scope: Scope, body: bytes, request_id: str, relay: Relay) -> None:
        client = self._roster.client(worker_id)
        if client is None:
            raise EngineUnreachableError(f"worker {worker_id} is gone")
        path = scope["path"]
        awaited = self._roster.sent(worker_id)
        if not runs_engine(path):
            awaited.end()  # it may take its time without a single step of the engine
        unmetered = b"" if self._roster.is_metered(worker_id) else unmetered_block(worker_id)
        if unmetered and self._is_capped:
            message = f"{CAP_FIELD}: no cap can be kept, for worker {worker_id} does not measure energy"
            raise ApiError(400, message, "energy_cap_unavailable", CAP_FIELD)
        try:
            headers = self._span.engine_headers(engine_headers(scope["headers"], request_id))
            response = await client.send(scope["method"], engine_target(scope), headers, body)
            kind = header(response.raw_headers, b"content-type") or b""
            is_stream = kind.startswith(b"text/event-stream")
            is_answer = response.status == 200 and not is_stream and runs_engine(path)
            awaited.headers_received(is_answer=is_answer)
            try:
                _check_status(worker_id, response.status)
                if is_failure_status(response.status):
                    await self._leave_for_another(path, f"it answered {response.status}")
                if is_stream:
                    await relay.stream(
                        response,
                        path,
                        awaited,
                        unmetered,
                        lambda failure: self._leave_for_another(path, failure),
                        self._give_up_on_caller,
                    )
                else:
                    await relay.whole(response, path, awaited, unmetered)
            except BaseException:
                response.close()
                raise
            response.release()
        finally:
            awaited.end()

    async def _leave_for_another(self, path: str, failure: str) -> None:
        """Leave an engine's own failure unsaid where another attempt may do better; else it is the answer.

        Where no other worker is ready a worker that is well is not asked again: it would most likely say the same.

        Raises:
            EngineUnreachableError: this attempt is over.
        """
        if len(self._tried_worker_ids) == _MAX_ATTEMPTS or not runs_engine(path):
            return
        has_died = await self._roster.has_died(self._tried_worker_ids[-1])
        if has_died or self._roster.is_served_elsewhere(self._record.model, self._tried_worker_ids):
            raise EngineUnreachableError(f"{failure}{', as its engine has died' if has_died else ''}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._started_at_seconds


def _check_status(worker_id: str, status: int) -> None:
    if not 200 <= status < 600:
        raise ApiError(502, f"worker {worker_id} answered with status {status}", "engine_error")
