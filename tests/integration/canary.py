"""A word that callers give in every place there is for words, and where it is looked for afterwards."""

import asyncio
import contextlib
import json
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.integration.http_answers import CHAT, COMPLETIONS, Answer, ask

# Letters and digits alone: it stays as it is in JSON, in a URL, in a header and in whatever case.
CANARY = "canary" + secrets.token_hex(8)

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": CANARY, "description": CANARY, "parameters": {"type": "object", "title": CANARY}},
}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": f"You are {CANARY}."},
    {"role": "user", "content": [{"type": "text", "text": CANARY}], "name": CANARY},
    {
        "role": "assistant",
        "content": CANARY,
        "tool_calls": [
            {"id": CANARY, "type": "function", "function": {"name": CANARY, "arguments": json.dumps({CANARY: CANARY})}}
        ],
    },
    {"role": "tool", "tool_call_id": CANARY, "content": CANARY},
]
HEADERS = {
    "Authorization": f"Bearer {CANARY}",
    "Cookie": f"session={CANARY}",
    "User-Agent": CANARY,
    "X-Anything": CANARY,
    "X-Request-Id": f"no id: {CANARY}",
    "traceparent": CANARY,
}


def chat(model: str, **fields: Any) -> dict[str, Any]:
    """A chat request with the canary wherever a caller may write."""
    told = {"tools": [TOOL], "user": CANARY, "metadata": {CANARY: CANARY}, "stop": [CANARY], "max_tokens": 2}
    return {"model": model, "messages": MESSAGES} | told | fields


def bodies(model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole and streamed requests to every route that takes a model."""
    for stream in (False, True):
        usage = {"stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
        yield CHAT, chat(model, **usage)
        yield COMPLETIONS, {"model": model, "prompt": CANARY, "user": CANARY, "max_tokens": 2, **usage}
        responses = {"model": model, "input": CANARY, "instructions": CANARY, "max_output_tokens": 16, "stream": stream}
        yield "/v1/responses", responses
        messages = {"model": model, "system": CANARY, "messages": MESSAGES[1:2], "max_tokens": 2, "stream": stream}
        yield "/v1/messages", messages
    text: dict[str, Any] = {"model": model, "input": CANARY, "prompt": CANARY, "query": CANARY, "documents": [CANARY]}
    text |= {"text_1": CANARY, "text_2": CANARY, "messages": MESSAGES[1:2]}
    for path in ("/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize", "/v1/brand/new"):
        yield path, text


def refused_bodies(model: str) -> Iterator[tuple[str, object, int]]:
    """Requests that are wrong, each with the status it gets."""
    yield CHAT, f'{{"model": "{model}", "messages": "{CANARY}'.encode(), 400
    yield CHAT, CANARY.encode(), 400
    yield CHAT, json.dumps([CANARY]).encode(), 400
    yield CHAT, chat(CANARY), 404
    yield CHAT, chat(CANARY, stream=True), 404
    yield CHAT, chat(model, stream=CANARY), 400
    yield CHAT, chat(model, max_tokens=CANARY), 400
    yield CHAT, chat(model, service_tier=CANARY), 400
    yield CHAT, chat(model, max_energy_joules=CANARY), 400
    yield COMPLETIONS, {"model": model, "prompt": f"{CANARY} " * 3000}, 400


async def ask_everything(client: aiohttp.ClientSession, model: str) -> list[Answer]:
    """Send all of these; returns the answers of those that are not wrong."""
    answers = [await ask(client, path, body, headers=HEADERS) for path, body in bodies(model)]
    for path, body, status in refused_bodies(model):
        refused = await ask(client, path, body, headers=HEADERS)
        assert refused.status == status, (path, refused.body[:200])
    for target in (f"/{CANARY}", f"/v1/energy/summary?by={CANARY}", f"/v1/energy/requests/{CANARY}"):
        assert (await ask(client, target, method="GET", headers=HEADERS)).status in {400, 404}
    for target in (f"/v1/models/{CANARY}", f"/v1/files/{CANARY}?name={CANARY}", f"/v1/responses/{CANARY}"):
        for method in ("GET", "DELETE", "PUT"):
            await ask(client, target, method=method, headers=HEADERS)
    for path in ("/pooling", "/classify", "/detokenize"):
        await ask(client, path, {"model": model, "input": CANARY, "tokens": CANARY}, headers=HEADERS)
    for name, value in (("X-Max-Energy-Joules", CANARY), ("X-Deadline-Unix-Seconds", CANARY)):
        refused = await ask(client, CHAT, chat(model), headers=HEADERS | {name: value})
        assert refused.status == 400
    await send_forms(client, model)
    await leave_streams(client, model)
    await send_no_http(client)
    return answers


async def send_forms(client: aiohttp.ClientSession, model: str) -> None:
    """An upload as it should be, one without a model, and what only says that it is a form."""
    for fields in ({"model": model, "prompt": CANARY}, {CANARY: CANARY}):
        form = aiohttp.FormData(fields)
        form.add_field("file", CANARY.encode(), filename=f"{CANARY}.wav", content_type="audio/wav")
        async with client.post("/v1/audio/transcriptions", data=form) as response:
            await response.read()
    for content_type in ("multipart/form-data; boundary=x", f"multipart/form-data; boundary={CANARY}", CANARY):
        await ask(client, "/v1/audio/transcriptions", CANARY.encode(), headers={"Content-Type": content_type})
        await ask(client, "/v1/files", f"--x\r\n{CANARY}".encode(), headers={"Content-Type": content_type})


async def leave_streams(client: aiohttp.ClientSession, model: str) -> None:
    """Hang up in the middle of an answer."""
    for path, body in ((CHAT, chat(model)), (COMPLETIONS, {"model": model, "prompt": CANARY})):
        async with client.post(path, json=body | {"stream": True, "max_tokens": 500}) as response:
            assert response.status == 200
            await response.content.readline()
            response.close()


async def send_no_http(client: aiohttp.ClientSession) -> None:
    """What is no HTTP, or breaks off in a body."""
    assert client._base_url is not None
    parts = urlsplit(str(client._base_url))
    half = f'POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{"messages": "{CANARY}'
    chunk = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n"
    for text in (f"{CANARY}\r\n\r\n", f"GET / HTTP/1.1\r\n{CANARY}\r\n\r\n", chunk, half):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(text.encode())
        with contextlib.suppress(OSError):
            if text is half:
                await writer.drain()
            else:
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await writer.wait_closed()


def files_with(word: str, *folders: Path, changed_since_unix_seconds: float = 0.0) -> list[Path]:
    """Every file under these folders that has the word in its bytes or in its name."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # others may clean up meanwhile
                state = path.lstat()
                is_read = stat.S_ISREG(state.st_mode) and state.st_mtime >= changed_since_unix_seconds
                if word in path.name.lower() or (is_read and word.encode() in path.read_bytes().lower()):
                    found.append(path)
    return found
