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
from server.top.errors import KeyRefusedError, NotWattlineError, SilentServerError

LIVE_PATH: Final = "/v1/energy/live"
_ANSWER_SECONDS: Final = 5.0


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
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise SettingError(expected)
    if parts.username is not None or parts.password is not None:
        raise SettingError("URL: expected no name or password in it; a key goes into a variable, see --key-env")
    return url.rstrip("/")


class ServerConnection:
    """Asks one server."""

    def __init__(self, url: str, api_key: str | None, key_variable: str) -> None:
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
                return json.loads(await answer.read())
        except aiohttp.InvalidURL:
            raise SettingError(f"URL = {self.url!r}: expected one such as http://127.0.0.1:8000") from None
        except TimeoutError:
            raise SilentServerError(f"{self.url} has not answered within {_ANSWER_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise SilentServerError(f"{self.url}: {_reason(error)}") from None
        except ValueError:
            raise NotWattlineError(f"{self.url} answers with something else than JSON: it is no Wattline") from None

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


def _reason(error: BaseException) -> str:
    """The system's own words, where there are any."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "there is no such host"
    number = getattr(getattr(error, "os_error", error), "errno", None)
    return os.strerror(number).lower() if number else str(error) or type(error).__name__
