"""A provider's carbon intensity, fetched in the background and kept for as long as the provider says it holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from yarl import URL

from server.carbon.errors import CarbonAnswerError, CarbonError
from server.carbon.grid import CarbonIntensity, GridSample, aged
from server.carbon.providers import CarbonProvider

logger = logging.getLogger("wattline.carbon")

_TIMEOUT_SECONDS: Final = 10.0
_MAX_ANSWER_BYTES: Final = 64 * 1024
# A provider publishes a period some moments after it has begun.
_PUBLISHING_SECONDS: Final = 15.0
_MIN_WAIT_SECONDS: Final = 60.0
_MAX_WAIT_SECONDS: Final = 3600.0
# Back-off after failures: 5 s, doubled each time. Free plans allow few questions, and the value lasts half an hour.
_FIRST_BACK_OFF_SECONDS: Final = 5.0
_MAX_BACK_OFF_SECONDS: Final = 900.0


class CarbonFetchError(CarbonError):
    """The provider could not be asked; `retry_after_seconds` is what it said about asking again."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class FetchedGridCarbon:
    """The latest value that a provider told. `run` keeps it fresh; without it nothing is ever known.

    `clock` gives seconds of the Unix epoch, `sleep` waits. A provider that fails is asked ever more rarely; its last
    value counts until it is stale.
    """

    def __init__(
        self,
        provider: CarbonProvider,
        base_url: str,
        stale_after_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._provider = provider
        self._url = URL(base_url.rstrip("/") + provider.target(), encoded=True)
        self._stale_after_seconds = stale_after_seconds
        self._clock = clock
        self._sleep = sleep
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._sample: GridSample | None = None
        self._failures = 0
        self._failure: str | None = None

    def now(self, unix_seconds: float) -> CarbonIntensity:
        sample = self._sample
        if sample is None:
            reason = f"no value yet: {self._failure or 'the first is being fetched'}"
            return CarbonIntensity(None, self._provider.source, None, reason)
        return aged(sample, unix_seconds, self._stale_after_seconds)

    async def run(self) -> None:
        """Fetch for ever."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                await self._sleep(await self.refresh(session))

    async def refresh(self, session: aiohttp.ClientSession) -> float:
        """Ask once; returns after how many seconds to ask again. Whatever goes wrong is logged once, not raised."""
        try:
            sample = self._provider.read(await self._fetch(session))
        except CarbonError as error:
            return self._failed(error)
        if self._failures:
            logger.info("%s answers again", self._provider.source)
        self._sample, self._failures, self._failure = sample, 0, None
        lasting_seconds = sample.until_unix_seconds + _PUBLISHING_SECONDS - self._clock()
        return min(max(lasting_seconds, _MIN_WAIT_SECONDS), _MAX_WAIT_SECONDS)

    def _failed(self, error: CarbonError) -> float:
        self._failures += 1
        self._failure = str(error)
        if self._failures == 1:
            logger.warning("%s: %s; asking again by and by", self._provider.source, error)
        wait_seconds = min(_FIRST_BACK_OFF_SECONDS * 2.0 ** min(self._failures - 1, 16), _MAX_BACK_OFF_SECONDS)
        asked_seconds = error.retry_after_seconds if isinstance(error, CarbonFetchError) else None
        return min(max(wait_seconds, asked_seconds or 0.0), _MAX_WAIT_SECONDS)

    async def _fetch(self, session: aiohttp.ClientSession) -> bytes:
        headers = {"Accept": "application/json", **self._provider.headers()}
        try:
            # Redirects are not followed: the token is for this host.
            request = session.get(self._url, headers=headers, allow_redirects=False, timeout=self._timeout)
            async with request as response:
                if response.status != 200:
                    raise CarbonFetchError(_refusal(response.status), _retry_after(response))
                body = await response.content.read(_MAX_ANSWER_BYTES + 1)
                while len(body) <= _MAX_ANSWER_BYTES and (rest := await response.content.readany()):
                    body += rest
        except TimeoutError as error:
            raise CarbonFetchError(f"no answer within {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CarbonFetchError(f"it cannot be reached ({type(error).__name__})") from error
        if len(body) > _MAX_ANSWER_BYTES:
            raise CarbonAnswerError(f"the answer is longer than {_MAX_ANSWER_BYTES} bytes")
        return body


def _refusal(status: int) -> str:
    match status:
        case 401 | 403:
            return f"it refuses the token or the zone (status {status})"
        case 429:
            return "it was asked too often (status 429)"
        case _:
            return f"it answered with status {status}"


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The header's seconds; its other form, a date, is as good as none to a back-off."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
