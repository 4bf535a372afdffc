"""Requests that read or manage rather than generate: they go straight to a ready worker, unscheduled and uncounted."""

import asyncio

import aiohttp

from server.api_error import ApiError, normalised_error
from server.asgi import (
    Receive,
    Scope,
    Send,
    caller_headers,
    engine_headers,
    engine_target,
    header,
    json_headers,
    send_whole,
)
from server.disconnect import DisconnectWatch
from server.roster import Roster
from workers.engine_connection import EngineAnswer
from workers.errors import EngineUnreachableError


def no_worker_ready() -> ApiError:
    """The answer while every worker is starting or lost."""
    return ApiError(503, "no worker is ready yet", "no_worker", headers={"Retry-After": "10"})


async def pass_through(
    roster: Roster,
    scope: Scope,
    receive: Receive,
    send: Send,
    request_id: str,
    body: bytes,
    worker_id: str | None = None,
) -> None:
    """Relay one request to this worker, else the first ready one, an event stream as it comes, anything else whole.

    Raises:
        ApiError: no worker is ready, or it could not be reached, and nothing was sent to the caller.
    """
    ready = {member.worker_id: member.client for member in roster.ready()}
    client = ready.get(worker_id) if worker_id is not None else next(iter(ready.values()), None)
    if client is None:
        raise no_worker_ready() if worker_id is None else _is_gone()
    watch = DisconnectWatch(receive)
    try:
        response = await client.send(
            scope["method"], engine_target(scope), engine_headers(scope["headers"], request_id), body
        )
        async with response:
            if not 200 <= response.status < 600:
                raise ApiError(502, f"the engine answered with status {response.status}", "engine_error")
            if (header(response.raw_headers, b"content-type") or b"").startswith(b"text/event-stream"):
                await _relay_stream(response, send, request_id)
            else:
                await _relay_whole(response, scope["path"], send, request_id)
    except (EngineUnreachableError, aiohttp.ClientError, OSError) as error:
        raise ApiError(502, "the engine could not be reached", "engine_error") from error
    except asyncio.CancelledError:
        if not watch.is_gone:
            raise
    finally:
        watch.close()


def _is_gone() -> ApiError:
    """Engines keep in memory what they store: it has ended with the one that did."""
    return ApiError(404, "the worker that kept this response has stopped, and the response with it")


async def _relay_whole(response: EngineAnswer, path: str, send: Send, request_id: str) -> None:
    answer = await response.read()
    headers = caller_headers(response.raw_headers, request_id)
    if response.status >= 400:
        answer = normalised_error(response.status, answer, path)
        headers = json_headers(headers)
    await send_whole(send, response.status, headers, answer)


async def _relay_stream(response: EngineAnswer, send: Send, request_id: str) -> None:
    headers = [*caller_headers(response.raw_headers, request_id), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    try:
        async for chunk in response.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (aiohttp.ClientError, OSError):
        error = ApiError(502, "the engine broke off in mid-stream", "engine_error")
        await send({"type": "http.response.body", "body": b"data: " + error.body() + b"\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
