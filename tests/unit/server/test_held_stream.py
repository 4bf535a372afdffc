import asyncio

from server.asgi import Message
from server.held_stream import HeldStream
from server.service_tier import TIER_HEADER


async def test_a_stream_that_is_held_begins_with_its_headers_and_a_comment() -> None:
    sent: asyncio.Queue[Message] = asyncio.Queue()
    held = HeldStream(sent.put, "r1", [(TIER_HEADER, b"flex")])
    held._begin()
    start, first = await sent.get(), await sent.get()
    held.release()
    headers = dict(start["headers"])
    assert (start["status"], headers[b"x-request-id"], headers[b"x-wattline-service-tier"]) == (200, b"r1", b"flex")
    assert first["body"] == b": keep-alive\n\n"
