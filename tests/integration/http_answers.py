"""What the tests ask of a server over HTTP, and how they read its answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HELLO: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hello"}]}
PROMPT: dict[str, Any] = {"model": "fake", "prompt": "hello"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, its body as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)

    def error(self) -> dict[str, Any]:
        """The error object, which must have OpenAI's shape with a string code."""
        body = self.json()
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
        assert isinstance(error["code"], str)
        assert error["param"] is None or isinstance(error["param"], str)
        assert self.headers["Content-Type"] == "application/json"
        return error

    def events(self) -> list[str]:
        """The events of a stream that ended as it should."""
        assert self.headers["Content-Type"].startswith("text/event-stream")
        *events, rest = self.body.decode().split("\n\n")
        assert rest == ""
        assert events[-1] == "data: [DONE]"
        return events

    def energy(self) -> dict[str, Any]:
        """The energy block of an answer, whole or streamed."""
        if not self.headers["Content-Type"].startswith("text/event-stream"):
            block: dict[str, Any] = self.json()["energy"]
            return block
        comments = [event for event in self.events() if event.startswith(": energy ")]
        assert comments == self.events()[-2:-1], "exactly one comment, right before the end"
        streamed: dict[str, Any] = json.loads(comments[0].removeprefix(": energy "), parse_float=Decimal)
        return streamed


async def ask(
    client: aiohttp.ClientSession,
    target: str,
    body: object = None,
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request. `target` goes out as written; a body that is not bytes is put into JSON."""
    assert client._base_url is not None
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = ({} if body is None else {"Content-Type": "application/json"}) | dict(headers or {})
    url = URL(str(client._base_url).rstrip("/") + target, encoded=True)
    async with client.request(method, url, data=data, headers=sent) as response:
        return Answer(response.status, response.headers, await response.read())


async def metrics(client: aiohttp.ClientSession, headers: Mapping[str, str] | None = None) -> "MetricsPage":
    """A scrape; where the server has keys, `headers` hold an administrator's."""
    page = await ask(client, "/metrics", method="GET", headers=headers)
    assert page.status == 200
    return MetricsPage(page.body.decode())


class MetricsPage:
    """A scrape."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name and with these labels."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())
