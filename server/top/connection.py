"""Asks a server for its live body, again and again over one connection."""

import asyncio
import json
import os
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

import aiohttp

from server.errors import SettingError
from server.printable import printable
from server.top.errors import KeyRefusedError, NotWattlineError, SilentServerError

LIVE_PATH: Final = "/v1/energy/live"
_ANSWER_SECONDS: Final = 5.0
# A hundred tenants, fifty requests and thousands of workers take less.
_MOST_BYTES: Final = 16 * 2**20


class LiveSource(AbstractAsyncContextManager["LiveSource", None], Protocol):
    """Where the bodies come from. Entered inside the event loop that is to use it."""

    async def fetch(self) -> Any:  # noqa: ANN401  # JSON
        """The body as it is now.

        Raises:
            KeyRefusedError, NotWattlineError, SilentServerError: by whose fault it is.
        """
        ...


def checked_url(url: str) -> str:
    """The server's address, without a slash at its end.

    Raises:
        SettingError: it is none.
    """
    expected = f"URL = {url!r}: expected one such as http://127.0.0.1:8000"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingError(expected) from None
    if (
        not url.isprintable()
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or port == 0
        or parts.query
        or parts.fragment
    ):
        raise SettingError(expected)
    if parts.username is not None or parts.password is not None:
        raise SettingError("URL: expected no name or password in it; a key goes into a variable, see --key-env")
    return url.rstrip("/")


class ServerConnection:
    """Asks one server.

    Raises:
        SettingError: the key cannot be one.
    """

    def __init__(self, url: str, api_key: str | None, key_variable: str) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise SettingError(f"{key_variable}: expected a key, without line breaks and letters beyond ASCII")
        self.url = url
        self._api_key = api_key
        self._key_variable = key_variable
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self) -> Any:  # noqa: ANN401  # JSON
        assert self._session is not None
        try:
            async with self._session.get(self.url + LIVE_PATH, allow_redirects=False) as answer:
                self._check(answer.status)
                return json.loads(await self._read(answer), parse_constant=_no_number)
        except aiohttp.InvalidURL:
            raise SettingError(f"URL = {self.url!r}: expected one such as http://127.0.0.1:8000") from None
        except TimeoutError:
            raise SilentServerError(f"{self.url} has not answered within {_ANSWER_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise SilentServerError(f"{self.url}: {_reason(error)}") from None
        except (ValueError, RecursionError):
            raise NotWattlineError(f"{self.url} answers with something else than JSON: it is no Wattline") from None

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > _MOST_BYTES:
                raise NotWattlineError(f"{self.url} answers with more than {_MOST_BYTES:,} bytes: it is no Wattline")
        return bytes(body)

    def _check(self, status: int) -> None:
        if status == 200:
            return
        if status in {401, 403}:
            raise KeyRefusedError(f"{self.url}: {self._refusal(status)}")
        if status >= 500 or status == 429:
            raise SilentServerError(f"{self.url} answers {status}")
        raise NotWattlineError(f"{self.url} answers {status} to GET {LIVE_PATH}: it is no Wattline, or one too old")

    def _refusal(self, status: int) -> str:
        if self._api_key is None:
            return f"the server wants a key: put an administrating tenant's into {self._key_variable}"
        if status == 403:
            return f"the key in {self._key_variable} is not an administrating tenant's"
        return f"the key in {self._key_variable} is not valid there"


def _no_number(name: str) -> None:
    """JSON has no NaN and no infinity."""
    raise ValueError(name)


def _reason(error: BaseException) -> str:
    """The system's own words, where there are any."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {_in_one_line(str(error.certificate_error))}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):  # its number is none of the system's
        return f"there is no TLS with it: {_in_one_line(str(error.os_error))}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "there is no such host"
    number = getattr(getattr(error, "os_error", error), "errno", None)
    return os.strerror(number).lower() if number else _in_one_line(str(error)) or type(error).__name__


def _in_one_line(text: str) -> str:
    """What may quote the server, for a line of the screen."""
    return printable(" ".join(text.split()))
